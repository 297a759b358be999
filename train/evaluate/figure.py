"""A picture of the scores: bars for every kind and category, and some of the drawn pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from asg_jax.backbone import Params
from asg_jax.models.registry import Model
from asg_jax.train.evaluate.detector import detect
from asg_jax.train.evaluate.generation import DRAWN, draw_all
from asg_jax.train.evaluate.outcomes import ALL
from asg_jax.train.evaluate.prompts import PicturePrompt, prompt_set
from asg_jax.train.evaluate.scores import GENERATION, UNDERSTANDING, Table
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evaluate.understanding import GREEDY

SHOWN = 12  # pictures of each model: two of every category
PANELS = ((UNDERSTANDING, GREEDY, "kind"), (GENERATION, DRAWN, "category"))


class Sheet(NamedTuple):
    """The first prompts of an evaluation and what was drawn for them."""

    prompts: Sequence[PicturePrompt]
    pictures: UInt8[np.ndarray, "N 32 32 3"]


def sheet(model: Model, generator: Params, settings: EvalSettings) -> Sheet:
    """The very pictures that were judged: they depend on the seed alone."""
    prompts = prompt_set(settings.seed, settings.prompts)
    wanted = np.array([(n, 0) for n in range(min(SHOWN, len(prompts)))])
    return Sheet(prompts[: len(wanted)], draw_all(model, generator, prompts, wanted, settings))


def figure(tables: Mapping[str, Table], sheets: Mapping[str, Sheet]) -> Figure:
    """Bars with 95 % intervals on top, a row of pictures for each model below.

    Args:
      tables: statistics of each model by name.
      sheets: pictures of each model.
    """
    drawing = Figure(figsize=(14, 4 + 2 * len(sheets)), layout="constrained")
    grid = drawing.add_gridspec(1 + len(sheets), SHOWN, height_ratios=[3, *[1.2] * len(sheets)])
    for panel, (part, measure, label) in enumerate(PANELS):
        half = slice(panel * SHOWN // 2, (panel + 1) * SHOWN // 2)
        axes = drawing.add_subplot(grid[0, half], title=f"{part}, by {label}")
        _bars(axes, {name: t[part][measure] for name, t in tables.items()}, label)
    for row, (name, shown) in enumerate(sheets.items(), start=1):
        verdicts = [p.met(d) for p, d in zip(shown.prompts, detect(shown.pictures), strict=True)]
        for n, (prompt, pixels) in enumerate(zip(shown.prompts, shown.pictures, strict=True)):
            axes = drawing.add_subplot(grid[row, n])
            _picture(axes, pixels, str(prompt), verdicts[n])
            if n == 0:
                axes.set_ylabel(name)
    return drawing


def _bars(axes: Any, statistics: Mapping[str, Mapping[str, Any]], label: str) -> None:
    first = next(iter(statistics.values()))
    shown = [ALL, *(name for name in first if name.startswith(f"{label}: "))]
    width = 0.8 / len(statistics)
    for n, (name, own) in enumerate(statistics.items()):
        values = np.array([own[statistic] for statistic in shown])
        places = np.arange(len(shown)) + width * (n - (len(statistics) - 1) / 2)
        errors = np.maximum(np.abs(values[:, 1:] - values[:, :1]), 0).T
        axes.bar(places, values[:, 0], width, yerr=errors, label=name, capsize=2)
    names = [statistic.removeprefix(f"{label}: ") for statistic in shown]
    axes.set_xticks(range(len(shown)), names, rotation=30, ha="right")
    axes.set_ylim(0, 100)
    axes.set_ylabel("points of 100")
    axes.legend()


def _picture(axes: Any, pixels: np.ndarray, prompt: str, met: bool) -> None:
    axes.imshow(pixels)
    axes.set_xticks([])
    axes.set_yticks([])
    words = prompt.split()
    broken = "\n".join(" ".join(words[n : n + 3]) for n in range(0, len(words), 3))
    axes.set_title(broken, fontsize=7)
    for edge in axes.spines.values():
        edge.set_color("tab:green" if met else "tab:red")
        edge.set_linewidth(2)
