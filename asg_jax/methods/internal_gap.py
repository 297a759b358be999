"""Internal Gap (arXiv 2507.16663): the understanding side sorts what the generating side draws.

Drawings that are told to show their prompt are imitated (`internal_gap_sft`), or the surest of them
is preferred to the surest of those that are not (`internal_gap_dpo`). Prompts without an accepted
drawing wait in a pool, and are drawn anew later, when the model may do better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from asg_jax.backbone import PyTree
from asg_jax.engine.drawing import (
    Appraisal,
    Canvas,
    DrawingMethod,
    DrawingSettings,
    drawing_rows,
)
from asg_jax.engine.method import Examples, Phase, phase_of
from asg_jax.engine.pool import empty_pool, queued, sort_pool, waiting
from asg_jax.engine.recipe import Step
from asg_jax.engine.selection import Accepted, AcceptedPair, Selection
from asg_jax.engine.state import TrainState
from asg_jax.objectives.drawings import DrawingDPO, DrawingImitation
from asg_jax.ranges import bounded
from asg_jax.signals.table import DRAWINGS, weights_of

REWARD = weights_of(DRAWINGS, p_yes=1.0)


@dataclass(frozen=True)
class Settings(DrawingSettings):
    """See `asg_jax.engine.drawing.DrawingSettings`.

    Attributes:
      name: how configs and the command line call the preset.
      drawing_steps: steps on new prompts, per cycle.
      replay_steps: steps on prompts of the pool after them; 0 is without replay.
      pool: prompts that wait at most; the oldest go.
    """

    name: Literal["internal_gap_sft", "internal_gap_dpo"] = "internal_gap_sft"
    weights: Mapping[str, float] = field(default_factory=lambda: REWARD)
    selection: Selection = Accepted()
    drawing_steps: int = bounded(9, least=1)
    replay_steps: int = bounded(1, least=0)
    pool: int = bounded(256, least=1)


def fit_sft(settings: Settings) -> Settings:
    """Imitation of all that is accepted."""
    generator = replace(settings.generator, objective=DrawingImitation())
    return replace(settings, weights=REWARD, selection=Accepted(), generator=generator)


def fit_dpo(settings: Settings) -> Settings:
    """Preference of the accepted, and cross-entropy of it."""
    generator = replace(settings.generator, objective=DrawingDPO(nll=1.0))
    return replace(
        settings,
        name="internal_gap_dpo",
        weights=REWARD,
        selection=AcceptedPair(),
        generator=generator,
    )


class InternalGap(DrawingMethod):
    """Implements `asg_jax.engine.method.Method`."""

    @property
    def phases(self) -> Sequence[Phase]:
        """See `asg_jax.engine.method.Method`."""
        settings = self.settings
        return (
            Phase("generation", settings.drawing_steps, "generation"),
            Phase("replay", settings.replay_steps, "generation"),
        )

    def start_memory(self) -> PyTree:
        """An empty pool."""
        return empty_pool(self.settings.pool, self.settings.lengths.caption)

    def remember(self, memory: Any, state: TrainState, canvas: Canvas, judged: Appraisal) -> Any:
        """The pool after a step."""
        record = canvas.found.record
        assert record.verdict is not None  # `look` always finds it
        accepted = (record.verdict.preference >= 0.5) & record.exists
        return sort_pool(memory, canvas.own, accepted.any(-1))

    def step(self, state: TrainState, examples: Examples) -> Step:
        """See `asg_jax.engine.method.Method`."""
        engine, phase = self.engine, phase_of(examples.step, self.phases).name
        moment = engine.moment(examples)
        prompts, places = self.prompts(state, moment), [-1] * len(examples.ids)
        old = waiting(engine, state.memory.own) if phase == "replay" else []
        for n, row in enumerate(examples.rows):
            if row < len(old):
                places[n], prompts[n] = old[row]
        canvas = self.paint(state, moment, prompts)
        canvas = replace(canvas, own=queued(engine, prompts, places))
        learned = engine.learn(self.learning, state, canvas)
        return self.told(phase, learned, partial(drawing_rows, prompts))
