"""SILMM (arXiv 2412.05818): the model writes prompts, draws them, and asks itself about each part.

A drawing earns the mean of p(right) - p(wrong) over questions that its prompt is taken apart into.
The best drawings are preferred to the worst, in rounds: each draws with the model of the round
before, and measures preferences from it. `silmm` compares likelihoods, `silmm_kc` features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from asg_jax.backbone import Params, PyTree
from asg_jax.engine.drawing import Canvas, DrawingMethod, DrawingSettings
from asg_jax.engine.engine import Learned
from asg_jax.engine.prompting import Source
from asg_jax.engine.selection import Extremes, Selection
from asg_jax.engine.state import TrainState
from asg_jax.objectives.drawings import DrawingDPO, DrawingObjective, FeatureDPO
from asg_jax.ranges import bounded
from asg_jax.signals.table import DRAWINGS, weights_of

REWARD = weights_of(DRAWINGS, question_margin=1.0)


@dataclass(frozen=True)
class Settings(DrawingSettings):
    """See `asg_jax.engine.drawing.DrawingSettings`.

    Attributes:
      name: how configs and the command line call the preset.
      round: steps of each; the paper has three rounds in all.
    """

    name: Literal["silmm", "silmm_kc"] = "silmm"
    source: Source = "written"
    weights: Mapping[str, float] = field(default_factory=lambda: REWARD)
    selection: Selection = Extremes()
    round: int = bounded(70, least=1)


def _fit(name: str, objective: DrawingObjective, settings: Settings) -> Settings:
    generator = replace(settings.generator, objective=objective)
    return replace(
        settings,
        name=name,
        source="written",
        weights=REWARD,
        selection=Extremes(),
        generator=generator,
    )


fit = partial(_fit, "silmm", DrawingDPO())
fit_kc = partial(_fit, "silmm_kc", FeatureDPO())


def rounds(settings: Settings, steps: int) -> Settings:
    """The paper's three, of so many steps in all."""
    return replace(settings, round=-(-steps // 3))


class SILMM(DrawingMethod):
    """Implements `asg_jax.engine.method.Method`; the anchor is the model of the round before."""

    @property
    def anchored(self) -> bool:
        """See `asg_jax.engine.recipe.Recipe`."""
        return True

    def __init__(self, *args: Any, **kwargs: Any):
        """See `asg_jax.engine.method.Preset.make`."""
        super().__init__(*args, **kwargs)
        self.learning = partial(learn_round, self.settings.round, self.learning)

    def painter(self, state: TrainState) -> Params:
        """The model of the round before draws."""
        return Params(self.engine.model.base, state.memory.anchor)


def learn_round(
    steps: int,
    learn: partial[Learned],
    slices: int,
    base: PyTree,
    state: TrainState,
    canvas: Canvas,
) -> Learned:
    """`asg_jax.engine.drawing.learn_drawing`; at the end of a round the anchor moves up."""
    learned = learn(slices, base, state, canvas)
    after = learned.state
    over = after.step % steps == 0
    choose = lambda new, old: jnp.where(over, new, old)
    anchor = jax.tree.map(choose, after.roles["generator"].adapter, state.memory.anchor)
    memory = replace(after.memory, anchor=anchor)
    metrics = learned.metrics | {"state/round": after.step // steps}
    return learned._replace(state=replace(after, memory=memory), metrics=metrics)
