"""Methods that learn from their own drawings: one step for all, and the settings that differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, UInt32

from asg_jax import ranges
from asg_jax.backbone import Backbone, Params, PyTree, Request, Sampler
from asg_jax.engine.engine import JudgeKind, Learned, Moment
from asg_jax.engine.looking import FACTS, Found, Look, look
from asg_jax.engine.method import Examples
from asg_jax.engine.programs import Lengths, keys
from asg_jax.engine.prompting import Source, write_prompts
from asg_jax.engine.recipe import Recipe, Step
from asg_jax.engine.report import share, shuffle, spread
from asg_jax.engine.roles import DrawingRole, Optimizer, advance, follow, improve_painter, named
from asg_jax.engine.selection import Everyone, Selection
from asg_jax.engine.state import TrainState
from asg_jax.errors import UserError
from asg_jax.objectives.drawings import fault
from asg_jax.objectives.painter import DrawingLesson, Painter
from asg_jax.ops.masked import masked_mean
from asg_jax.pytree import pytree
from asg_jax.rollout.image import Drawings
from asg_jax.signals.rewards import best, weighted
from asg_jax.signals.table import DRAWINGS, Numbers, check_weights, needed, read, weights_of
from asg_jax.signals.verdicts import non_unification

WRITE, DRAW, EXAMINE, LEARN, TELL, REWRITE = range(6)  # what random numbers are for


@dataclass(frozen=True)
class DrawingSettings:
    """What methods share that learn from their own drawings.

    Attributes:
      source: where prompts come from: said of the pictures, written freely, or given.
      prompts: the user's, for the source `given`.
      prompt_temperature: divides the logits of prompts that the model writes; 0 is greedy.
      images: drawings of each prompt.
      questions: most questions that a prompt is taken apart into, for signals that need them.
      weights: reward of a drawing, by signal.
      selection: what of a group the Generator learns from.
      judge: who looks at the drawings: the role as it learns, the frozen model, or its average.
      generator: how it learns.
      optimizer: how the Generator's factors are updated.
      lengths: room for texts.
      sampler: how drawings that are learned from are made.
      shuffled: rewards are dealt at random among the drawings of the batch: the control.
    """

    source: Source = "captions"
    prompts: tuple[str, ...] = ()
    prompt_temperature: float = ranges.bounded(1.0, least=0)
    images: int = ranges.bounded(8, least=1)
    questions: int = ranges.bounded(4, least=1)
    weights: Mapping[str, float] = field(default_factory=lambda: weights_of(DRAWINGS, gvu=1.0))
    selection: Selection = Everyone()
    judge: JudgeKind = "live"
    generator: DrawingRole = DrawingRole()
    optimizer: Optimizer = Optimizer()
    lengths: Lengths = Lengths()
    sampler: Sampler = Sampler(grid=(28, 28), steps=25, guidance=1.0)
    shuffled: bool = False


@pytree
class Canvas:
    """What a step brought to light.

    Attributes:
      request: the prompts.
      drawn: L images of each.
      found: what the judge saw in them.
      stream: see `asg_jax.engine.programs.keys`.
      weights: one number per image token, for objectives that need them.
      own: what the method itself found out.
    """

    request: Request
    drawn: Drawings
    found: Found
    stream: UInt32[Array, "B S"]
    weights: Float[Array, "B L T"] | None = None
    own: Any = ()


class Appraisal(NamedTuple):
    """Signals and rewards of a step's drawings.

    Attributes:
      signals: one number per drawing, by the signal's name.
      reward: weighted sum of the signals, one number per drawing.
      kept: prompts of which something was learned.
      picture: 8-bit pixels of the best drawing of each prompt.
    """

    signals: dict[str, Float[Array, "B L"]]
    reward: Float[Array, "B L"]
    kept: Bool[Array, " B"]
    picture: Array


Remember = Callable[[Any, TrainState, Canvas, Appraisal], Any]


def check_drawing(settings: DrawingSettings, kind: str) -> None:
    """Makes sure that settings fit each other and the kind of backbone.

    Raises:
      UserError: they do not.
    """
    if wrong := fault(settings.generator.objective, kind, settings.sampler):
        raise UserError(f"{wrong}.")
    check_weights("weights", DRAWINGS, settings.weights, FACTS)
    if settings.source == "given" and not settings.prompts:
        raise UserError("source is 'given' but there are no prompts; set method.prompts.")
    if settings.images < settings.selection.least:
        raise UserError(
            f"images is {settings.images}; the selection '{settings.selection.name}' needs at"
            f" least {settings.selection.least}."
        )


class DrawingMethod(Recipe):
    """A method with one step: prompts, drawings, a judge who looks, one update of the Generator.

    Implements `asg_jax.engine.method.Method`.
    """

    judged_by = "generator"  # the role whose parameters look, if they are not those of the base

    def __init__(self, *args: Any, **kwargs: Any):
        """Makes the method ready; see `asg_jax.engine.method.Preset.make`."""
        super().__init__(*args, **kwargs)
        backbone, settings = self.engine.model.backbone, self.settings
        if lack := self.lacking(backbone.spec.kind):
            raise UserError(lack)
        check_drawing(settings, backbone.spec.kind)
        facts = needed(DRAWINGS, settings.weights) | {"verdict"}  # for a check
        self.look = Look(facts, settings.questions, EXAMINE)
        self.learning = partial(learn_drawing, backbone, settings, self.remember)

    def lacking(self, kind: str) -> str:
        """What the method needs and a kind of backbone lacks, in a sentence; else empty."""
        return ""

    def remember(self, memory: Any, state: TrainState, canvas: Canvas, judged: Appraisal) -> Any:
        """What the method remembers after a step; traced."""
        return memory

    def painter(self, state: TrainState) -> Params:
        """Who draws."""
        return self.engine.params(state, "generator")

    def prompts(self, state: TrainState, moment: Moment) -> list[str | None]:
        """What is to be drawn."""
        given = self.settings.source, self.settings.prompts, self.settings.prompt_temperature
        judge = self.judge(state, self.judged_by)
        return write_prompts(self.engine, judge, moment, *given, WRITE)

    def paint(self, state: TrainState, moment: Moment, prompts: Sequence[str | None]) -> Canvas:
        """Draws the prompts and lets the judge look."""
        engine, settings, examples = self.engine, self.settings, moment.examples
        order = engine.order([prompt or "" for prompt in prompts], examples, DRAW)
        drawn = engine.draw(self.painter(state), settings.sampler, settings.images, order)
        viewing = engine.viewing(drawn.pixels, settings.sampler.grid, len(prompts))
        judge = self.judge(state, self.judged_by)
        found = look(engine, judge, moment, prompts, viewing, self.look)
        stream = engine.placement.put(examples.stream(LEARN))
        return Canvas(order.request, drawn, found, stream)

    def step(self, state: TrainState, examples: Examples) -> Step:
        """See `asg_jax.engine.method.Method`."""
        moment = self.engine.moment(examples)
        prompts = self.prompts(state, moment)
        learned = self.engine.learn(self.learning, state, self.paint(state, moment, prompts))
        return self.told("generation", learned, partial(drawing_rows, prompts))


def drawing_rows(prompts: Sequence[str | None], judged: Appraisal) -> list[dict[str, Any]]:
    """The highest numbers of each prompt's drawings."""
    return [
        {
            "prompt": prompt or "",
            "reward": float(judged.reward[n].max()),
            "learned": bool(judged.kept[n]),
            **{name: float(values[n].max()) for name, values in judged.signals.items()},
        }
        for n, prompt in enumerate(prompts)
    ]


def learn_drawing(
    backbone: Backbone,
    settings: DrawingSettings,
    remember: Remember,
    slices: int,
    base: PyTree,
    state: TrainState,
    canvas: Canvas,
) -> Learned:
    """One update of the Generator.

    Args:
      backbone: static under jit.
      settings: static under jit.
      remember: (memory of the method, state before, canvas, appraisal) -> the memory after the
        step; static under jit.
      slices: see `asg_jax.engine.roles.improve`; static under jit.
      base: frozen parameters.
      state: what the step began with.
      canvas: what the step brought to light.
    """
    record, memory = canvas.found.record, state.memory
    signals = read(DRAWINGS, settings.weights, record, Numbers())
    reward = weighted(signals, settings.weights)
    lesson = make_lesson(settings, canvas, reward)
    painter = Painter(backbone, settings.sampler, base, memory.anchor)
    role = settings.generator
    own = role, state.roles["generator"], lesson, keys(canvas.stream, 3)[0, 2]
    improved = improve_painter(painter, settings.optimizer, *own, slices=slices)
    picture = best(reward, record.exists).pick(canvas.drawn.pictures)
    appraisal = Appraisal(signals, reward, lesson.kept.any(-1), picture)
    anchor = follow(role.objective, memory.anchor, improved)
    after = advance(state, {"generator": improved}, replace(memory, anchor=anchor))
    own = remember(memory.own, after, canvas, appraisal)
    after = replace(after, memory=replace(after.memory, own=own))
    metrics = drawing_metrics(canvas, appraisal, lesson) | named(improved.metrics, "generator")
    return Learned(after, metrics | {"state/skipped": after.skipped}, appraisal)


def make_lesson(
    settings: DrawingSettings, canvas: Canvas, reward: Float[Array, "B L"]
) -> DrawingLesson:
    """What the Generator learns from."""
    mask, of_prompts = canvas.found.record.exists, keys(canvas.stream, 2)
    if settings.shuffled:
        reward = shuffle(reward, mask, of_prompts[0, 1])
    choice = settings.selection.choose(reward, mask)
    whole = DrawingLesson(
        canvas.request, canvas.drawn, reward, mask, of_prompts[:, 0], canvas.weights
    )
    lesson = whole if choice.places is None else whole.pick(choice.places)
    return replace(lesson, advantages=choice.advantages, kept=choice.kept)


def drawing_metrics(
    canvas: Canvas, appraisal: Appraisal, lesson: DrawingLesson
) -> dict[str, Array]:
    """Rewards and signals, and what shows when a reward is won by a trick."""
    record, mismatched = canvas.found.record, canvas.found.mismatched
    mask, verdict = record.exists, record.verdict
    assert verdict is not None and mismatched is not None  # every step asks for them
    return {
        **spread("generator", appraisal.reward, mask),
        **{f"signal/{name}": masked_mean(x, mask) for name, x in appraisal.signals.items()},
        "check/non_unification": non_unification(verdict.preference >= 0.5, mask),
        "check/yes_mismatched": share(mismatched.preference >= 0.5, mask),
        "check/learned": lesson.kept.any(-1).mean(),
        "check/prompts": mask.any(-1).mean(),
    }
