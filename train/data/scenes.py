"""Rendered scenes: one to three coloured shapes on a small canvas, described exactly.

A scene stands on a 2 x 2 grid of cells, at most one item in each. The n-th scene of a seed is a
function of the two numbers alone, so a data set needs no storage to be reproducible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Float, UInt8

CANVAS, CELL = 32, 16  # pixels
CELLS = ("top left", "top right", "bottom left", "bottom right")  # row-major
SHAPES = ("circle", "square", "triangle", "cross")
PALETTE = {  # more than 105 from each other and from every background in RGB distance
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 210, 50),
    "purple": (170, 60, 200),
    "white": (240, 240, 240),
}
COLORS = tuple(PALETTE)
RADIUS = {"small": 4.0, "large": 6.0}  # pixels
SIZES = tuple(RADIUS)
JITTER = 2  # pixels: a large item still stands inside its cell
SHADES = (30, 110)  # grey level of the background
NOISE = 6.0  # standard deviation of the pixel noise
MAX_ITEMS = 3
SUBPIXELS = 8  # per side: the share of a pixel that an item covers is sampled on 64 points

Combination = tuple[str, str]  # shape, colour
COMBINATIONS: tuple[Combination, ...] = tuple(product(SHAPES, COLORS))
# One of each shape, four of the colours: what evaluation shows and training never does.
HELD_OUT: tuple[Combination, ...] = (
    ("circle", "yellow"),
    ("square", "purple"),
    ("triangle", "blue"),
    ("cross", "green"),
)
TRAINED = tuple(pair for pair in COMBINATIONS if pair not in HELD_OUT)


@dataclass(frozen=True)
class Item:
    """One coloured shape.

    Attributes:
      shape: one of SHAPES.
      color: one of COLORS.
      cell: index into CELLS.
      size: one of SIZES.
      shift: (rows, columns) in pixels from the centre of the cell, each within +-JITTER.
    """

    shape: str
    color: str
    cell: int
    size: str = "large"
    shift: tuple[int, int] = (0, 0)

    @property
    def row(self) -> int:
        """0 at the top, 1 at the bottom."""
        return self.cell // 2

    @property
    def column(self) -> int:
        """0 on the left, 1 on the right."""
        return self.cell % 2


@dataclass(frozen=True)
class Scene:
    """Everything about a picture but its noise: items in order of their cells, background."""

    items: tuple[Item, ...]
    shade: int = 70


def generator(seed: int, index: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one example; streams (splits) of one seed have no scene in common."""
    return np.random.default_rng([seed, stream, index])


def sample(rng: np.random.Generator, held_out: bool = False) -> Scene:
    """A random scene.

    Args:
      rng: source of randomness.
      held_out: show at least one held-out combination; otherwise there is none.
    """
    count = int(rng.integers(1, MAX_ITEMS + 1))
    pairs = _pairs(rng, COMBINATIONS if held_out else TRAINED, count)
    if held_out:
        pairs[int(rng.integers(count))] = HELD_OUT[int(rng.integers(len(HELD_OUT)))]
    cells = sorted(rng.choice(len(CELLS), count, replace=False).tolist())
    items = tuple(_place(rng, pair, cell) for pair, cell in zip(pairs, cells, strict=True))
    return Scene(items, int(rng.integers(SHADES[0], SHADES[1] + 1)))


def _pairs(rng: np.random.Generator, pool: Sequence[Combination], count: int) -> list[Combination]:
    """Combinations of a scene; in half of the scenes they share the shape or the colour.

    Without that, three of a kind would be too rare to learn to count to three.
    """
    shared = rng.random()
    if shared < 0.5:
        part = 0 if shared < 0.3 else 1
        value = pool[int(rng.integers(len(pool)))][part]
        pool = [pair for pair in pool if pair[part] == value]
    return [pool[int(n)] for n in rng.integers(len(pool), size=count)]


def _place(rng: np.random.Generator, pair: Combination, cell: int) -> Item:
    size = SIZES[int(rng.integers(len(SIZES)))]
    row, column = rng.integers(-JITTER, JITTER + 1, size=2).tolist()
    return Item(pair[0], pair[1], cell, size, (row, column))


@cache
def mask(shape: str, size: str, shift: tuple[int, int] = (0, 0)) -> Float[np.ndarray, "16 16"]:
    """The share of each pixel of a cell that an item covers (exact anti-aliasing)."""
    points = (np.arange(CELL * SUBPIXELS) + 0.5) / SUBPIXELS - CELL / 2
    y = (points - shift[0])[:, None] / RADIUS[size]  # the item fills -1..1
    x = (points - shift[1])[None, :] / RADIUS[size]
    inside = {
        "circle": x**2 + y**2 <= 1,
        "square": np.maximum(abs(x), abs(y)) <= 0.9,
        "triangle": (abs(x) <= (y + 1) / 2) & (y <= 1),
        "cross": (np.minimum(abs(x), abs(y)) <= 0.34) & (np.maximum(abs(x), abs(y)) <= 1),
    }[shape]
    covered = inside.reshape(CELL, SUBPIXELS, CELL, SUBPIXELS).mean((1, 3))
    covered.setflags(write=False)  # it is shared by every caller
    return covered


def window(cell: int) -> tuple[slice, slice]:
    """The rows and columns of a cell."""
    row, column = divmod(cell, 2)
    return slice(row * CELL, (row + 1) * CELL), slice(column * CELL, (column + 1) * CELL)


def render(scene: Scene, rng: np.random.Generator | None = None) -> UInt8[np.ndarray, "32 32 3"]:
    """The picture of a scene, with pixel noise if there is a generator for it."""
    pixels = np.full((CANVAS, CANVAS, 3), float(scene.shade))
    for item in scene.items:
        covered = mask(item.shape, item.size, item.shift)[..., None]
        pixels[window(item.cell)] += covered * (np.array(PALETTE[item.color]) - scene.shade)
    if rng is not None:
        pixels += NOISE * rng.standard_normal(pixels.shape)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def example(
    seed: int, index: int, stream: int = 0, held_out: bool = False
) -> tuple[Scene, UInt8[np.ndarray, "32 32 3"]]:
    """The scene with this index under this seed, and its picture."""
    rng = generator(seed, index, stream)
    scene = sample(rng, held_out)
    return scene, render(scene, rng)
