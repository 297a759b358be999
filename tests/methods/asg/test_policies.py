"""The policy that sampled is the policy that is updated, role by role.

Every factor of a role has a gradient, what was rewarded becomes more likely, and the next samples
are drawn from what was learned.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Adapter, FlowTrace, Params, Target, encode
from asg_jax.engine.engine import Moment
from asg_jax.engine.programs import Order, draw
from asg_jax.engine.roles import Role, improve
from asg_jax.engine.state import RoleState, TrainState
from asg_jax.errors import UserError
from asg_jax.methods.asg import Asg
from asg_jax.methods.asg.generation import device as generation
from asg_jax.methods.asg.generation.device import Results
from asg_jax.methods.asg.understanding import device as understanding
from asg_jax.methods.asg.understanding.device import Evidence
from asg_jax.objectives.drawings import (
    NFT,
    RWR,
    BitsGRPO,
    DrawingImitation,
    DrawingObjective,
    FlowGRPO,
)
from asg_jax.objectives.flow import mean_square
from asg_jax.objectives.losses import Losses
from asg_jax.objectives.painter import DrawingLesson, Painter, times_and_noise
from asg_jax.objectives.texts import GRPO, Reinforce, TextLesson, TextObjective, text_losses
from asg_jax.ops.bits import bit_log_probs
from asg_jax.rollout.image import trace_log_probs
from asg_jax.rollout.text import score
from tests.tiny import SETTINGS, bits, bits_slowly, copied, examples, flows, make, moment

# Where pictures have an expert of their own, the last layer of the text expert serves them with
# keys and values alone: its queries, output and MLP have no path to the velocity.
DEAD_END = ("q_proj", "o_proj", "mlp")
STOCHASTIC = replace(SETTINGS.sampler, noise_level=0.7)


@pytest.fixture(scope="module")
def state(asg: Asg) -> TrainState:
    return asg.init(0)


@pytest.fixture(scope="module")
def evidence(asg: Asg, state: TrainState) -> Evidence:
    return asg.loops["understanding"].gather(state, moment(asg))[0]


@pytest.fixture(scope="module")
def results(asg: Asg, state: TrainState) -> Results:
    return asg.loops["generation"].gather(state, moment(asg))[0]


Learning = Callable[[Adapter], Losses]


def text_loss(asg: Asg, objective: TextObjective, lesson: TextLesson, beta: float) -> Learning:
    """The losses of what a role said, by its adapter."""
    model = asg.engine.model
    return lambda adapter: text_losses(
        objective, model.backbone, model.base, adapter, lesson, jnp.float32(beta)
    )


def speech_loss(asg: Asg, role: str, state: TrainState, evidence: Evidence) -> Learning:
    """The losses of a role that speaks, as in a step."""
    settings, stops = asg.settings, asg.engine.model.processor.stop_ids
    judged, _ = understanding.judge(settings, stops, state.memory, evidence)
    judged = judged._replace(learns=jnp.ones_like(judged.learns))  # whatever chance has said
    if role == "proposer":
        lesson = understanding.proposer_lesson(settings, evidence, judged)
        return text_loss(asg, settings.proposer.objective, lesson, 0.01)
    lesson = understanding.solver_lesson(settings, state.memory, evidence, judged)
    return text_loss(asg, settings.solver.objective, lesson, 0.01)


def image_loss(
    asg: Asg,
    state: TrainState,
    results: Results,
    objective: DrawingObjective | None = None,
    lesson: DrawingLesson | None = None,
    sampler: Any = None,
) -> Learning:
    """The losses of the Generator, as in a step."""
    settings, model = asg.settings, asg.engine.model
    if lesson is None:
        lesson = generation.make_lesson(settings, results, generation.judge(settings, results))
    objective = objective or settings.generator.objective
    anchor = state.memory.anchor if objective.anchored else None
    painter = Painter(model.backbone, sampler or settings.sampler, model.base, anchor)
    return lambda adapter: objective.losses(painter, adapter, lesson, jnp.float32(0.01))


def moved(
    asg: Asg, loss: Callable[[], Learning], role: RoleState, pace: Role = SETTINGS.solver
) -> RoleState:
    """The state after a step on a loss, which is made where it is compiled."""
    nothing, key = jnp.zeros(1), jax.random.key(0)

    def step(role: RoleState) -> RoleState:
        of = loss()
        learning = lambda adapter, examples, beta: of(adapter)
        return improve(asg.settings.optimizer, pace, role, learning, nothing, key).state

    return jax.jit(step)(role)


def gradients(asg: Asg, loss: Callable[[], Learning], role: RoleState) -> tuple[Any, Any]:
    """Gradients before a step and after it."""

    def total(adapter):
        found = loss()(adapter)
        return jnp.where(found.kept, found.values, 0).sum()

    slope = jax.jit(jax.grad(total))
    return slope(role.adapter), slope(moved(asg, loss, role).adapter)


def assert_all_learn(before: Any, after: Any, dead_end: tuple[str, ...] = ()) -> None:
    """Every layer of every factor: b at once, a as soon as b is no longer zero."""
    assert before
    for path in before:
        stack = lambda factor: factor if factor.ndim == 3 else factor[None]
        start, b, a = stack(before[path].a), stack(before[path].b), stack(after[path].a)
        for layer in range(len(a)):
            last = layer == len(a) - 1
            reachable = not (last and ".und." in path and any(part in path for part in dead_end))
            name = f"{path} layer {layer}"
            assert not np.any(start[layer]), name
            assert np.any(b[layer]) == reachable, name
            assert np.any(a[layer]) == reachable, name


@bits_slowly
@pytest.mark.parametrize("role", ["proposer", "solver"])
def test_every_factor_of_the_speakers_learns(asg, state, evidence, role: str) -> None:
    loss = partial(speech_loss, asg, role, state, evidence)
    assert_all_learn(*gradients(asg, loss, state.roles[role]))


@bits_slowly
def test_every_factor_of_the_generator_learns(asg, state, results) -> None:
    loss = partial(image_loss, asg, state, results)
    before, after = gradients(asg, loss, state.roles["generator"])
    experts = any(".gen." in path for path in before)
    assert_all_learn(before, after, DEAD_END if experts else ())


@pytest.mark.slow
@bits
def test_every_factor_of_a_larger_generator_learns(asg, model, state, results) -> None:
    """The visual decoder and its projectors, where they are adapted, too."""
    larger = replace(asg.settings, generator=replace(asg.settings.generator, modules="drawing"))
    role = make(model, larger).init(0).roles["generator"]
    loss = partial(image_loss, asg, state, results)
    before, after = gradients(asg, loss, role)
    parts = {path.partition(".")[0] for path in before}
    assert parts == {"language", "decoder", "to_language", "from_language"}
    assert_all_learn(before, after)


@flows
def test_modules_that_a_backbone_does_not_have_are_refused(model) -> None:
    larger = replace(SETTINGS, generator=replace(SETTINGS.generator, modules="drawing"))
    with pytest.raises(UserError, match="generator.modules is 'drawing'.* has: generator, prop"):
        make(model, larger)


@bits_slowly
def test_next_samples_come_from_what_was_learned(asg: Asg) -> None:
    """The second steps of a run draw other texts and pictures than a run that did not learn."""
    start = asg.init(0)
    shown: Moment = moment(asg)
    learned, _ = asg.step(copied(start), examples(asg, 1))
    learned, _ = asg.step(learned, examples(asg, 2))
    questions, drawings = asg.loops["understanding"], asg.loops["generation"]
    for role in ("proposer", "solver"):
        pairs = [questions.gather(state, shown)[0] for state in (start, learned)]
        part = {"proposer": "asked", "solver": "answered"}[role]
        old, new = (getattr(pair, part).rollout for pair in pairs)
        assert not np.allclose(old.log_probs, new.log_probs, atol=1e-3), role
    old, new = (drawings.gather(s, shown)[0].drawn.pixels for s in (start, learned))
    assert np.abs(np.asarray(old) - np.asarray(new)).max() > 1e-3


@cache
def scores(asg: Asg):
    """Log-probs of what was said, under an adapter."""
    backbone = asg.engine.model.backbone

    @jax.jit
    def run(base, adapter, said):
        params = Params(base, adapter)
        prompt, rollout = encode(backbone, params, said.request).main, said.rollout
        stats = score(backbone, params, prompt, said.texts, rollout.texts, rollout.temperature)
        return stats.log_prob.sum(-1)

    return run


@pytest.mark.parametrize("objective", [GRPO(), Reinforce()], ids=lambda one: one.name)
def test_rewarded_texts_become_more_likely(asg, state, evidence, objective) -> None:
    base, said = asg.engine.model.base, evidence.asked
    advantages = jnp.where(jnp.arange(2) == 0, 1.0, -1.0) * jnp.ones((3, 1))
    lesson = TextLesson(said, advantages, jnp.ones(advantages.shape, bool))
    before = state.roles["proposer"]
    after = moved(asg, partial(text_loss, asg, objective, lesson, 0.0), before)
    change = scores(asg)(base, after.adapter, said) - scores(asg)(base, before.adapter, said)
    assert np.mean(change[:, 0]) > 0 > np.mean(change[:, 1])


def best_and_rest(results: Results, winner: int = 1) -> DrawingLesson:
    """The same drawing of every prompt is the best."""
    advantages = jnp.where(jnp.arange(3) == winner, 2.0, -1.0) * jnp.ones((3, 1))
    mask = jnp.ones(advantages.shape, bool)
    keys = jax.random.split(jax.random.key(3), 3)
    return DrawingLesson(results.request, results.drawn, advantages, mask, keys)


@flows
@pytest.mark.parametrize("objective", [RWR(), NFT()], ids=lambda one: one.name)
def test_rewarded_drawings_are_predicted_better(asg, state, results, objective) -> None:
    """At the times and noise of the update."""
    settings, model = asg.settings, asg.engine.model
    lesson = best_and_rest(results)
    noise = times_and_noise(lesson.keys, lesson.drawn.values, 1, settings.sampler.shift)
    target = Target(lesson.drawn.values, settings.sampler.grid)

    @jax.jit
    def errors(adapter):
        params = Params(model.base, adapter)
        prompts = encode(model.backbone, params, lesson.request)
        condition = model.backbone.condition(params, prompts, lesson.drawn.keys)
        flow = model.backbone.terms(params, condition, target, noise)
        return mean_square(flow.prediction - flow.goal).mean(0)

    before = state.roles["generator"]
    after = moved(asg, partial(image_loss, asg, state, results, objective, lesson), before)
    change = errors(after.adapter) - errors(before.adapter)
    assert change[1] < 0 and change[1] < min(change[0], change[2])


@flows
def test_rewarded_steps_of_the_stochastic_sampler_become_more_likely(asg, state, results) -> None:
    model = asg.engine.model
    order = Order(results.request, results.stream)
    drawn = jax.jit(partial(draw, model.backbone, STOCHASTIC, 3))(Params(model.base), order)
    lesson = best_and_rest(replace(results, drawn=drawn))
    first = lambda x: jnp.moveaxis(x, 1, 0)
    trace = FlowTrace(first(drawn.latents), first(drawn.log_probs))

    @jax.jit
    def log_probs(adapter):
        params = Params(model.base, adapter)
        condition = model.backbone.condition(
            params, encode(model.backbone, params, lesson.request), lesson.drawn.keys
        )
        return trace_log_probs(model.backbone, params, condition, trace, STOCHASTIC)

    before = state.roles["generator"]
    loss = partial(image_loss, asg, state, results, FlowGRPO(), lesson, STOCHASTIC)
    after = moved(asg, loss, before)
    old, new = log_probs(before.adapter), log_probs(after.adapter)
    np.testing.assert_allclose(old, trace.log_probs, atol=1e-4)
    change = (new - old).sum(0).mean(0)
    assert change[1] > 0 > max(change[0], change[2])


@bits
@pytest.mark.parametrize("objective", [BitsGRPO(), DrawingImitation()], ids=lambda one: one.name)
def test_rewarded_bits_become_more_likely(asg, state, results, objective) -> None:
    """By their advantages, or because the best drawing alone is imitated.

    A random network is steep: the step is small.
    """
    settings, model = asg.settings, asg.engine.model
    pace = replace(SETTINGS.generator, learning_rate=1e-4)
    lesson = best_and_rest(results)
    if objective.imitates:
        lesson = replace(lesson, kept=lesson.advantages > 0)
    target = Target(lesson.drawn.values, settings.sampler.grid)

    @jax.jit
    def log_probs(adapter):
        params = Params(model.base, adapter)
        prompts = encode(model.backbone, params, lesson.request)
        condition = model.backbone.condition(params, prompts, lesson.drawn.keys)
        terms = model.backbone.terms(params, condition, target, None)
        return bit_log_probs(terms.logits, terms.bits)

    before = state.roles["generator"]
    loss = partial(image_loss, asg, state, results, objective, lesson)
    after = moved(asg, loss, before, pace)
    old, new = log_probs(before.adapter), log_probs(after.adapter)
    recorded: Any = lesson.drawn.log_probs
    np.testing.assert_allclose(old, recorded, atol=1e-4)
    change = (new - old).sum((0, 2, 3))
    assert change[1] > 0 and change[1] > max(change[0], change[2])


def test_a_group_shares_times_and_noise() -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    draw = times_and_noise(keys, jnp.zeros((2, 3, 4, 5)), 4, 3.0)
    t, noise = draw.t.reshape(2, 4, 3), draw.noise.reshape(2, 4, 3, 4, 5)
    assert np.all(t == t[..., :1]) and np.all(noise == noise[:, :, :1])
    even = t[..., 0] / (3 - 2 * t[..., 0])  # the shift undone
    assert np.all((even >= np.arange(4) / 4) & (even <= np.arange(1, 5) / 4))
    assert len(np.unique(noise)) == noise.size // 3
