"""SUDER (arXiv 2506.07963): input and output change places, and the model says how likely that is.

A drawing earns the likelihood of its prompt (of one example's drawings the Generator learns), and a
caption earns the likelihood of the picture that it describes (the Solver learns). Each side is
judged by the other. Two updates: GRPO on all samples, or SimPO on the best and the worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from PIL.Image import Image as Picture

from asg_jax.backbone import Request
from asg_jax.engine.captioning import Captioning, describe, learn_captions
from asg_jax.engine.drawing import LEARN, TELL, DrawingMethod, DrawingSettings
from asg_jax.engine.method import Examples, Phase, phase_of
from asg_jax.engine.recipe import Step
from asg_jax.engine.roles import TextRole
from asg_jax.engine.selection import Everyone, Extremes
from asg_jax.engine.speaking import best_rows
from asg_jax.engine.state import TrainState
from asg_jax.objectives.drawings import DrawingSimPO
from asg_jax.objectives.texts import GRPO, SimPO
from asg_jax.ranges import bounded
from asg_jax.signals.table import DRAWINGS, weights_of

REWARD = weights_of(DRAWINGS, likelihood=1.0)


@dataclass(frozen=True)
class Settings(DrawingSettings):
    """See `asg_jax.engine.drawing.DrawingSettings`.

    Attributes:
      name: how configs and the command line call the preset.
      captions: captions of each picture, at least 2.
      caption_temperature: divides their logits, above 0.
      draws: pairs of time and noise by which a flow's likelihood is estimated.
      solver: how it learns.
    """

    name: Literal["suder_grpo", "suder_simpo"] = "suder_grpo"
    weights: Mapping[str, float] = field(default_factory=lambda: REWARD)
    captions: int = bounded(8, least=2)
    caption_temperature: float = bounded(1.0, above=0)
    draws: int = bounded(8, least=2)
    solver: TextRole = TextRole()


def fit_grpo(settings: Settings) -> Settings:
    """Everyone by advantages; drawings by the policy gradient that the backbone has."""
    solver = replace(settings.solver, objective=GRPO())
    return replace(settings, weights=REWARD, selection=Everyone(), solver=solver)


def fit_simpo(settings: Settings) -> Settings:
    """The best against the worst."""
    return replace(
        settings,
        name="suder_simpo",
        weights=REWARD,
        selection=Extremes(),
        solver=replace(settings.solver, objective=SimPO()),
        generator=replace(settings.generator, objective=DrawingSimPO()),
    )


class Suder(DrawingMethod):
    """Implements `asg_jax.engine.method.Method`."""

    names = ("solver", "generator")
    judged_by = "solver"

    def __init__(self, *args: Any, **kwargs: Any):
        """See `asg_jax.engine.method.Preset.make`."""
        super().__init__(*args, **kwargs)
        settings = self.settings
        numbers = settings.captions, settings.caption_temperature, settings.draws
        self.how = Captioning(*numbers, settings.sampler.shift)
        self.captioning = partial(learn_captions, self.engine.model.backbone, settings)

    @property
    def phases(self) -> Sequence[Phase]:
        """See `asg_jax.engine.method.Method`."""
        return (Phase("understanding", 1, "understanding"), *super().phases)

    def prepare(self, pictures: Sequence[Picture]) -> Request:
        """See `asg_jax.engine.method.Method`."""
        return self.engine.prepare(pictures, self.settings.sampler.grid)

    def step(self, state: TrainState, examples: Examples) -> Step:
        """See `asg_jax.engine.method.Method`."""
        if phase_of(examples.step, self.phases).name == "generation":
            return super().step(state, examples)
        speaker, painter = self.engine.params(state, "solver"), self.judge(state, "generator")
        moment, purposes = self.engine.moment(examples), (TELL, LEARN)
        described, texts = describe(self.engine, speaker, painter, moment, self.how, purposes)
        learned = self.engine.learn(self.captioning, state, described)

        heads = [{"picture": number} for number in examples.ids]
        return self.told("understanding", learned, partial(best_rows, heads, texts))
