"""SRUM (arXiv 2510.12784): the understanding side tells which places of a drawing are good.

Every region earns p(yes) - p(no) to whether it is as it should be, the whole drawing the same to
whether it shows its prompt; together they make a map of weights of the flow-matching error on the
model's own drawings. The paper lets the model write its scores; here they are read off its
answer's first token, and where no segmenter proposes regions a fixed grid cuts the drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp

from asg_jax.backbone import PyTree
from asg_jax.engine.drawing import Canvas, DrawingMethod, DrawingSettings
from asg_jax.engine.engine import Learned, Moment
from asg_jax.engine.programs import keys
from asg_jax.engine.report import shuffle
from asg_jax.engine.selection import Everyone
from asg_jax.engine.state import TrainState
from asg_jax.errors import UserError
from asg_jax.objectives.drawings import Regional
from asg_jax.prompts.language import COLUMNS, ROWS, places
from asg_jax.ranges import bounded
from asg_jax.signals.regions import Variant, grid_boxes, reward_map, shrink
from asg_jax.signals.table import DRAWINGS, weights_of

REWARD = weights_of(DRAWINGS, yes_margin=1.0)


@dataclass(frozen=True)
class Settings(DrawingSettings):
    """See `asg_jax.engine.drawing.DrawingSettings`; the reward is the drawing's overall score.

    Attributes:
      name: how configs and the command line call the preset.
      cells: (rows, columns) of the grid of regions, at most three of each.
      variant: form of the map: the official code's, which never repels, or the paper's.
    """

    name: Literal["srum"] = "srum"
    weights: Mapping[str, float] = field(default_factory=lambda: REWARD)
    judge: Literal["live", "frozen", "ema"] = "frozen"
    cells: tuple[int, int] = bounded((2, 2), least=1, most=3)
    variant: Variant = "release"


def fit(settings: Settings) -> Settings:
    """Each prompt drawn once, by a frozen judge weighted place by place."""
    generator = replace(settings.generator, objective=Regional())
    return replace(
        settings,
        images=1,
        weights=REWARD,
        judge="frozen",
        selection=Everyone(),
        generator=generator,
    )


class SRUM(DrawingMethod):
    """Implements `asg_jax.engine.method.Method`."""

    def __init__(self, *args: Any, **kwargs: Any):
        """See `asg_jax.engine.method.Preset.make`."""
        super().__init__(*args, **kwargs)
        settings = self.settings
        if not isinstance(settings.generator.objective, Regional):
            raise UserError("srum weighs places; set generator.objective.name to 'regional'.")
        if not (settings.cells[0] in ROWS and settings.cells[1] in COLUMNS):
            raise UserError("cells must be from (1, 1) to (3, 3).")
        self.learning = partial(learn_regions, settings, self.learning)

    def lacking(self, kind: str) -> str:
        """See `DrawingMethod`."""
        if kind == "flow":
            return ""
        return (
            "srum weighs the places of a drawing, but the bits of this backbone lie on several"
            " grids; take a flow backbone."
        )

    def paint(self, state: TrainState, moment: Moment, prompts: Sequence[str | None]) -> Canvas:
        """Draws, and asks about every region too."""
        engine, settings = self.engine, self.settings
        canvas = super().paint(state, moment, prompts)
        language, parts = engine.language, places(*settings.cells)
        texts = [
            [language.region.format(caption=prompt or "", place=part) for part in parts]
            for prompt in prompts
        ]
        rows = [[language.contrast(text, "yes") for text in row] for row in texts]
        poll = engine.placement.put(engine.scribe.poll(rows, engine.scribe.about))
        viewing = engine.viewing(canvas.drawn.pixels, settings.sampler.grid, len(prompts))
        found = engine.ask_drawings(self.judge(state, self.judged_by), viewing, poll)
        return replace(canvas, own=found)


def learn_regions(
    settings: Settings,
    learn: partial[Learned],
    slices: int,
    base: PyTree,
    state: TrainState,
    canvas: Canvas,
) -> Learned:
    """`asg_jax.engine.drawing.learn_drawing` with weights of places."""
    record, regions = canvas.found.record, canvas.own
    verdict = record.verdict
    assert verdict is not None  # `look` always finds it
    _, _, height, width, _ = canvas.drawn.pixels.shape
    size = height, width
    boxes = grid_boxes(size, settings.cells)
    overall, scores = verdict.yes - verdict.no, regions.yes - regions.no
    if settings.shuffled:
        exists, (of_all, of_places) = record.exists, keys(canvas.stream, 5)[0, 3:]
        overall = shuffle(overall, exists, of_all)
        scores = shuffle(scores, jnp.broadcast_to(exists[..., None], scores.shape), of_places)
    weights = reward_map(boxes, scores, overall, size, settings.variant)
    weights = shrink(weights, settings.sampler.grid)
    canvas = replace(canvas, weights=weights.reshape(*overall.shape, -1))
    learned = learn(slices, base, state, canvas)
    places_of = {"signal/region": scores.mean(), "signal/place_weight": weights.mean()}
    return learned._replace(metrics=learned.metrics | places_of)
