"""Where a picture is good: a map of weights from the scores of its regions.

SRUM (arXiv 2510.12784). Boxes are (x0, y0, x1, y1) in pixels, the last two outside; scores lie in
[-1, 1].
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Variant = Literal["paper", "release"]


def reward_map(
    boxes: Int[Array, "*#batch R 4"],
    scores: Float[Array, "*batch R"],
    overall: Float[Array, "*batch"],
    size: tuple[int, int],
    variant: Variant = "release",
) -> Float[Array, "*batch H W"]:
    """Weight of every pixel in the flow-matching error.

    The official code starts at 1/2, raises it where a box is good (a bad one changes nothing) and
    multiplies by the overall score; the weight is never negative. The paper's weight is the score
    itself, which repels from bad regions; where boxes overlap the larger score counts, and outside
    of all boxes the weight is 0.

    Args:
      boxes: regions; what lies outside the picture is cut off, inverted ones do not count.
      scores: one number per region.
      overall: score of the whole picture.
      size: (height, width).
      variant: which of the two forms.
    """
    height, width = size
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    x0, y0, x1, y1 = (boxes[..., n, None, None] for n in range(4))
    inside = (columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1)
    none = jnp.zeros((*overall.shape, 1, height, width))
    if variant == "release":
        values = jnp.where(inside, (scores[..., None, None] + 1) / 2, 0.5)
        values = jnp.concatenate([none + 0.5, values], -3).max(-3)
    else:
        best = jnp.where(inside, scores[..., None, None], -jnp.inf)
        best = jnp.concatenate([none - jnp.inf, best], -3).max(-3)
        values = jnp.where(jnp.isfinite(best), best, 0)
    return values * ((overall + 1) / 2)[..., None, None]


def shrink(values: Float[Array, "*batch H W"], size: tuple[int, int]) -> Float[Array, "*batch h w"]:
    """A map on another grid: bilinear, centres of pixels aligned, without antialiasing."""
    shape = (*values.shape[:-2], *size)
    return jax.image.resize(values, shape, "linear", antialias=False)


def grid_boxes(size: tuple[int, int], cells: tuple[int, int]) -> Int[Array, "R 4"]:
    """Boxes that cut a picture evenly, row by row: regions where no segmenter proposes any.

    Args:
      size: (height, width) of the picture.
      cells: (rows, columns).
    """
    rows, columns = cells
    cut = lambda side, count: [n * side // count for n in range(count + 1)]
    tops, lefts = cut(size[0], rows), cut(size[1], columns)
    return jnp.array(
        [
            (lefts[j], tops[i], lefts[j + 1], tops[i + 1])
            for i in range(rows)
            for j in range(columns)
        ]
    )
