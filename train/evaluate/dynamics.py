"""A picture of learning dynamics: predicted changes against measured ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

Changes = tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]  # predicted, measured


def changes_figure(changes: Mapping[str, Changes]) -> Figure:
    """Points of predicted and measured changes in nats, and the line where they are equal.

    Args:
      changes: nats, by what changed, such as "same drawing" and "other drawings".
    """
    drawing = Figure(figsize=(5, 5), layout="constrained")
    axes = drawing.add_subplot()
    for name, (predicted, measured) in changes.items():
        axes.plot(predicted, measured, "o", markersize=4, label=name)
    every = np.concatenate([np.concatenate(pair) for pair in changes.values()])
    ends = [float(every.min()), float(every.max())]
    axes.plot(ends, ends, color="grey", linewidth=1, zorder=0)
    axes.set(xlabel="predicted by the kernel, nats", ylabel="measured after one step, nats")
    axes.legend()
    return drawing
