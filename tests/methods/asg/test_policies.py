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

from asg_jax.backbone import FlowTrace, Params, Target, encode
from asg_jax.methods.asg import Asg, generation, understanding, updates
from asg_jax.methods.asg.generation import Results
from asg_jax.methods.asg.generator import Frozen, Lesson, generator_loss, times_and_noise
from asg_jax.methods.asg.rollouts import Order, draw
from asg_jax.methods.asg.settings import Settings
from asg_jax.methods.asg.understanding import Evidence
from asg_jax.methods.asg.updates import Said
from asg_jax.methods.base import RoleState, TrainState
from asg_jax.objectives.flow import mean_square
from asg_jax.rollout.image import trace_log_probs
from tests.methods.conftest import SETTINGS, copied, pictures

IDS = [5, 9, 2]
PLAIN = replace(SETTINGS, weight_decay=0.0)
STOCHASTIC = replace(SETTINGS.sampler, noise_level=0.7)
# The text expert serves a picture by keys and values alone, so that these of its last layer have
# no path to what is drawn.
DEAD_END = ("q_proj", "o_proj", "mlp")

Learn = Callable[[RoleState, Any], RoleState]  # one update from what was said or drawn


@pytest.fixture(scope="module")
def state(asg: Asg) -> TrainState:
    return asg.init(0)


@pytest.fixture(scope="module")
def evidence(asg: Asg, state: TrainState) -> Evidence:
    return asg.loops["understanding"].gather(state, asg.moment(state, pictures(), IDS))[0]


@pytest.fixture(scope="module")
def results(asg: Asg, state: TrainState) -> Results:
    return asg.loops["generation"].gather(state, asg.moment(state, pictures(), IDS))[0]


def learning(make_loss: Callable[[Any], updates.Loss]) -> Learn:
    """One update by a loss of a batch, compiled."""

    @jax.jit
    def learn(role: RoleState, batch: Any) -> RoleState:
        return updates.improve(PLAIN, PLAIN.solver, role, make_loss(batch)).state

    return learn


@cache
def speaking(asg: Asg, objective: str) -> Learn:
    """An update from (said, advantages)."""
    kit = asg.kit

    def loss(batch: tuple[Said, jax.Array]) -> updates.Loss:
        said, advantages = batch
        every = jnp.ones(advantages.shape, bool)
        if objective == "grpo":
            return updates.grpo(kit.backbone, kit.base, said, advantages, every, 0.0, 0.2)
        return updates.reinforce(kit.backbone, kit.base, said, advantages, every, 0.0)

    return learning(loss)


@cache
def drawing(asg: Asg, settings: Settings) -> Learn:
    """An update from a lesson; the older policy is the one before the first update."""
    frozen = Frozen(asg.kit.base, asg.init(0).anchor)
    return learning(lambda lesson: generator_loss(asg.kit.backbone, settings, frozen, lesson, 0.0))


def assert_all_learn(learn: Learn, role: RoleState, batch: Any, dead_end=()) -> None:
    """Every layer of every factor has a gradient: b at once, a as soon as b is no longer zero."""
    slopes = lambda role: role.optimizer[1][0].mu  # Adam's memory of the gradients
    first = learn(role, batch)
    second = learn(first, batch)
    for path, before in slopes(first).items():
        after = slopes(second)[path]
        for layer in range(len(before.a)):
            last = layer == len(before.a) - 1
            reachable = not (last and ".und." in path and any(part in path for part in dead_end))
            name = f"{path} layer {layer}"
            assert not np.any(before.a[layer]), name
            assert np.any(before.b[layer]) == reachable, name
            assert np.any(after.a[layer]) == reachable, name


def test_every_factor_of_the_proposer_learns(asg, state, evidence) -> None:
    batch = evidence.asked, contrast(evidence.asked)
    assert_all_learn(speaking(asg, "grpo"), state.roles["proposer"], batch)


def test_every_factor_of_the_solver_learns(asg, state, evidence) -> None:
    batch = evidence.answered, contrast(evidence.answered)
    assert_all_learn(speaking(asg, "reinforce"), state.roles["solver"], batch)


def test_every_factor_of_the_generator_learns(asg, state, results) -> None:
    learn = drawing(asg, PLAIN)
    assert_all_learn(learn, state.roles["generator"], best_and_rest(results), DEAD_END)


def test_next_samples_come_from_what_was_learned(asg: Asg) -> None:
    """Other texts and pictures than those of a run that has learned nothing."""
    start, shown = asg.init(0), pictures()
    moment = asg.moment(start, shown, IDS)
    learned, _ = asg.step(copied(start), shown, IDS)
    learned, _ = asg.step(learned, shown, IDS)
    questions, drawings = asg.loops["understanding"], asg.loops["generation"]
    old, new = (questions.gather(state, moment)[0] for state in (start, learned))
    for part in ("asked", "answered"):
        pair = [np.asarray(getattr(one, part).rollout.log_probs) for one in (old, new)]
        assert np.abs(pair[0] - pair[1]).max() > 1e-3, part
    old, new = (drawings.gather(state, moment)[0] for state in (start, learned))
    assert np.abs(np.asarray(old.drawing.pixels) - np.asarray(new.drawing.pixels)).max() > 1e-3


def contrast(said: Said) -> jax.Array:
    """Advantages: every other sample is good, those between are bad."""
    shape = said.rollout.mask.shape[:2]
    return jnp.broadcast_to(1.0 - 2.0 * (jnp.arange(shape[1]) % 2), shape)


@pytest.mark.parametrize(
    ("role", "objective", "part"),
    [("proposer", "grpo", "asked"), ("solver", "reinforce", "answered")],
)
def test_rewarded_texts_become_more_likely(asg, state, evidence, role, objective, part) -> None:
    kit, said = asg.kit, getattr(evidence, part)
    sampled = said.rollout.temperature > 0  # greedy answers have no policy

    @jax.jit
    def likelihood(adapter):
        frozen = updates.speech_states(kit.backbone, Params(kit.base), said)
        stats = updates.speech_stats(kit.backbone, kit.base, adapter, said, frozen)
        return jnp.where(said.rollout.mask, stats.log_prob, 0).sum(-1)

    before, advantages = state.roles[role], jnp.where(sampled, contrast(said), 0)
    after = speaking(asg, objective)(before, (said, advantages))
    change = np.asarray(likelihood(after.adapter) - likelihood(before.adapter))
    assert change[advantages > 0].mean() > 0 > change[advantages < 0].mean()


def test_steps_use_these_losses(asg, state, evidence, results) -> None:
    """What a step learns from is what was sampled in it."""
    kit, settings = asg.kit, asg.settings
    judged, _ = understanding.judge(settings, kit.processor.stop_ids, state, evidence)
    rows = np.arange(3)[:, None], np.asarray(judged.chosen)[:, None] * 4 + np.arange(3)
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates, "grpo", lambda *args: calls.append(args))
        patch.setattr(updates, "reinforce", lambda *args: calls.append(args))
        understanding.proposer_loss(kit.backbone, settings, kit.base, state, evidence, judged)
        understanding.solver_loss(kit.backbone, settings, kit.base, state, evidence, judged)
    (_, _, asked, *_), (_, _, answered, *_) = calls
    assert asked is evidence.asked
    for name in ("ids", "mask", "log_probs", "temperature"):
        want = np.asarray(getattr(evidence.answered.rollout, name))[rows]
        np.testing.assert_array_equal(getattr(answered.rollout, name), want)
    np.testing.assert_array_equal(answered.texts.ids, evidence.answered.texts.ids[rows])
    lesson = generation.make_lesson(settings, results, generation.judge(settings, results))
    assert lesson.drawing is results.drawing and lesson.request is results.request


def best_and_rest(results: Results, winner: int = 1) -> Lesson:
    """The same drawing of every prompt is the best."""
    advantages = jnp.where(jnp.arange(3) == winner, 2.0, -1.0) * jnp.ones((3, 1))
    mask = jnp.ones(advantages.shape, bool)
    keys = jax.random.split(jax.random.key(3), 3)
    return Lesson(results.request, results.drawing, advantages, mask, keys)


@pytest.mark.parametrize("objective", ["rwr", "nft"])
def test_rewarded_drawings_are_predicted_better(asg, state, results, objective) -> None:
    settings, kit = replace(PLAIN, objective=objective), asg.kit
    lesson = best_and_rest(results)
    noise = times_and_noise(lesson.keys, lesson.drawing.values, 1, 1.0)
    target = Target(lesson.drawing.values, settings.sampler.grid)

    @jax.jit
    def errors(adapter):
        params = Params(kit.base, adapter)
        prompts = encode(kit.backbone, params, lesson.request)
        condition = kit.backbone.condition(params, prompts, lesson.keys[0])
        flow = kit.backbone.terms(params, condition, target, noise)
        return mean_square(flow.prediction - flow.goal).mean(0)

    before = state.roles["generator"]
    after = drawing(asg, settings)(before, lesson)
    change = errors(after.adapter) - errors(before.adapter)
    assert change[1] < 0 and change[1] < min(change[0], change[2])


def test_rewarded_steps_of_the_stochastic_sampler_become_more_likely(asg, state, results) -> None:
    kit, settings = asg.kit, replace(PLAIN, objective="flow_grpo", sampler=STOCHASTIC)
    order = Order(results.request, results.stream)
    drawn = jax.jit(partial(draw, kit.backbone, STOCHASTIC, 3))(Params(kit.base), order)
    lesson = best_and_rest(replace(results, drawing=drawn))
    first = lambda x: jnp.moveaxis(x, 1, 0)
    trace = FlowTrace(first(drawn.latents), first(drawn.log_probs))

    @jax.jit
    def log_probs(adapter):
        params = Params(kit.base, adapter)
        prompts = encode(kit.backbone, params, lesson.request)
        condition = kit.backbone.condition(params, prompts, lesson.keys[0])
        return trace_log_probs(kit.backbone, params, condition, trace, STOCHASTIC)

    before = state.roles["generator"]
    after = drawing(asg, settings)(before, lesson)
    old, new = log_probs(before.adapter), log_probs(after.adapter)
    np.testing.assert_allclose(old, trace.log_probs, atol=1e-4)
    change = (new - old).sum(0).mean(0)
    assert change[1] > 0 > max(change[0], change[2])


def test_a_group_shares_times_and_noise() -> None:
    keys = jax.random.split(jax.random.key(0), 2)
    drawn = times_and_noise(keys, jnp.zeros((2, 3, 4, 5)), 4, 3.0)
    t, noise = drawn.t.reshape(2, 4, 3), drawn.noise.reshape(2, 4, 3, 4, 5)
    assert np.all(t == t[..., :1]) and np.all(noise == noise[:, :, :1])
    even = t[..., 0] / (3 - 2 * t[..., 0])  # the shift undone
    assert np.all((even >= np.arange(4) / 4) & (even <= np.arange(1, 5) / 4))
    assert len(np.unique(noise)) == noise.size // 3
