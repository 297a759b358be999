"""What a rendered or generated scene shows, read from its pixels without any model.

Every cell is compared with every shape in both sizes at every position, sharp and slightly
blurred. In a cell with the pixels p, a template with coverage m fits as p = b + (c - b) m, so the
best background b and colour c have a closed form (linear regression per channel), and the template
that explains most of the cell's variance is what stands there. A shape may have no colour of the
palette; and a circle beside a square must differ from it, whatever each resembles most.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8

from asg_jax.train.data.scenes import CELL, COLORS, JITTER, PALETTE, SHAPES, SIZES, Item, mask

REACH = JITTER + 1  # pixels: generated items may stand a little further out than rendered ones
BLURS = (0.0, 0.25)  # weight of each neighbour's half of a binomial blur per axis; 0 is sharp
CHUNK = 512  # pictures at once: bounds the memory of the scores

# A rendered item explains 270,000 and more, pixel noise less than
# 2,000. Less than this is an empty cell.
MIN_EXPLAINED = 80_000.0
MIN_SHARE = 0.65  # of the variance of the cell; a rendered item explains at least 0.9 of it
MAX_COLOR_ERROR = 80.0  # RGB distance to the nearest colour; half the way between two is 63 or more
OTHER = "other"  # a colour that is further from all that have names
# What two shapes must explain of their own cells, together, more than each would of the other's: of
# a circle and a square it is .12 and more if they are sharp, .03 if they are as soft as drawn ones.
MIN_CONTRAST = 0.03
MAX_CHROMA, MAX_SHADE = 50.0, 175.0  # of a background


class Detection(NamedTuple):
    """What one picture shows.

    Attributes:
      items: what was recognised, in order of the cells; shape, colour or OTHER, cell, size, shift.
      unclear: cells that hold something else than one item on a plain background.
    """

    items: tuple[Item, ...]
    unclear: int


class TemplateFit(NamedTuple):
    """The best template of each shape for every cell."""

    template: Int[np.ndarray, "N 4 S"]
    explained: Float[np.ndarray, "N 4 S"]
    total: Float[np.ndarray, "N 4"]  # sum of squares around the mean of the cell
    color: Float[np.ndarray, "N 4 S 3"]
    background: Float[np.ndarray, "N 4 S 3"]


@cache
def candidates() -> tuple[tuple[str, str, tuple[int, int], float], ...]:
    """Shape, size, shift and blur of every template."""
    steps = range(-REACH, REACH + 1)
    return tuple(product(SHAPES, SIZES, product(steps, steps), BLURS))


def blurred(covered: Float[np.ndarray, "16 16"], side: float) -> Float[np.ndarray, "16 16"]:
    """A mask after the blur [side, 1 - 2 side, side] along both axes."""
    for axis in (0, 1):
        padded = np.pad(covered, [(int(axis == a),) * 2 for a in (0, 1)], mode="edge")
        near, far = (np.take(padded, range(n, n + CELL), axis) for n in (0, 2))
        covered = (1 - 2 * side) * covered + side * (near + far)
    return covered


@cache
def templates() -> Float[np.ndarray, "K 256"]:
    """The coverage of a cell by every candidate."""
    masks = [blurred(mask(shape, size, shift), blur) for shape, size, shift, blur in candidates()]
    return np.stack(masks).reshape(len(masks), -1).astype(np.float32)


def fit(pixels: UInt8[np.ndarray, "N 32 32 3"]) -> TemplateFit:
    """Fits every template to every cell and keeps the best."""
    cells = rearrange(pixels.astype(np.float32), "n (r h) (q w) c -> n (r q) c (h w)", r=2, q=2)
    mean = cells.mean(-1)
    cells = cells - mean[..., None]
    coverage = templates()
    centred = coverage - coverage.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    # One 2-D product: NumPy multiplies stacks of small matrices one by one.
    flat = rearrange(cells, "n k c p -> (n k c) p") @ (centred / norms[:, None]).T
    scores = flat.reshape(*cells.shape[:3], len(coverage))
    energy = np.square(scores).sum(2)
    # Templates come shape by shape.
    by_shape = rearrange(energy, "n k (s t) -> n k s t", s=len(SHAPES)).argmax(-1)
    best = by_shape + np.arange(len(SHAPES)) * (len(coverage) // len(SHAPES))
    score = np.take_along_axis(scores, best[:, :, None], -1)
    slope = rearrange(score, "n k c s -> n k s c") / norms[best][..., None]
    background = mean[:, :, None] - slope * coverage.mean(1)[best][..., None]
    explained = np.take_along_axis(energy, best, -1)
    total = np.square(cells).sum((2, 3))
    return TemplateFit(best, explained, total, background + slope, background)


def shapes(found: TemplateFit, present: Bool[np.ndarray, "N 4"]) -> Int[np.ndarray, "N 4"]:
    """Which shape stands in every cell; two that hardly differ are the same one.

    Args:
      found: how well every shape fits.
      present: cells that hold an item.
    """
    share = found.explained / np.maximum(found.total, 1)[..., None]
    chosen = share.argmax(-1)
    for one, other in combinations(range(4), 2):
        pair = chosen[:, [one, other]]
        own = np.take_along_axis(share[:, [one, other]], pair[..., None], -1).sum((1, 2))
        swapped = np.take_along_axis(share[:, [one, other]], pair[:, ::-1, None], -1).sum((1, 2))
        alike = present[:, one] & present[:, other] & (own - swapped < MIN_CONTRAST)
        common = (share[:, one] + share[:, other]).argmax(-1)
        chosen[:, [one, other]] = np.where(alike[:, None], common[:, None], pair)
    return chosen


def plain(background: Float[np.ndarray, "N 4 3"]) -> Bool[np.ndarray, "N 4"]:
    """Whether a background is grey and dark, as rendered ones are; else a cell is painted over."""
    chroma = background.max(-1) - background.min(-1)
    return (chroma <= MAX_CHROMA) & (background.mean(-1) <= MAX_SHADE)


def detect(pixels: UInt8[np.ndarray, "N 32 32 3"]) -> list[Detection]:
    """What each picture shows."""
    chunks = (pixels[n : n + CHUNK] for n in range(0, len(pixels), CHUNK))
    return [detection for chunk in chunks for detection in _read(fit(chunk))]


def _read(fits: TemplateFit) -> list[Detection]:
    present = fits.explained.max(-1) >= MIN_EXPLAINED
    shape = shapes(fits, present)
    explained = _of(fits.explained, shape)
    palette = np.array(list(PALETTE.values()), np.float32)
    distance = np.linalg.norm(_of(fits.color, shape)[..., None, :] - palette, axis=-1)
    clear = explained >= MIN_SHARE * fits.total
    grey = plain(_of(fits.background, shape))
    shown, unclear = present & clear & grey, ~grey | (present & ~clear)
    kinds = _of(fits.template, shape).tolist()
    named, nearest = (distance.min(-1) <= MAX_COLOR_ERROR).tolist(), distance.argmin(-1).tolist()
    color = lambda n, k: COLORS[nearest[n][k]] if named[n][k] else OTHER
    return [
        Detection(
            tuple(_item(kinds[n][k], color(n, k), k) for k in np.flatnonzero(row).tolist()),
            int(unclear[n].sum()),
        )
        for n, row in enumerate(shown)
    ]


def _of(values: np.ndarray, shape: Int[np.ndarray, "N 4"]) -> np.ndarray:
    """What belongs to the chosen shape of every cell."""
    index = shape.reshape(*shape.shape, *[1] * (values.ndim - 2))
    return np.take_along_axis(values, index, 2).squeeze(2)


def _item(template: int, color: str, cell: int) -> Item:
    shape, size, shift, _ = candidates()[template]
    return Item(shape, color, cell, size, shift)
