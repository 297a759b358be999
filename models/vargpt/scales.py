"""Scale schedules: the grids of bits that make a picture, coarse to fine.

A template is the list of grids of one aspect ratio. A picture uses the first `scales` of them; the
last one of the template, used or not, fixes the 2-D positions. (Infinity, arXiv 2412.04431.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from asg_jax.errors import UserError

Grid = tuple[int, int]  # height, width
Template = tuple[Grid, ...]


def _template(text: str) -> Template:
    pairs = [grid.split("x") for grid in text.split()]
    return tuple((int(height), int(width)) for height, width in pairs)


_UPRIGHT = (
    _template("1x1 2x2 4x4 6x6 8x8 12x12 16x16 20x20 24x24 32x32 40x40 48x48 64x64"),
    _template("1x1 2x2 3x3 5x4 10x8 15x12 20x16 25x20 30x24 35x28 45x36 55x44 70x56"),
    _template("1x1 2x2 4x3 8x6 12x9 16x12 20x15 24x18 28x21 36x27 48x36 60x45 72x54"),
    _template("1x1 2x2 3x2 6x4 9x6 15x10 21x14 27x18 33x22 39x26 48x32 63x42 78x52"),
    _template("1x1 2x2 3x3 7x4 11x6 14x8 21x12 28x16 35x20 42x24 56x32 70x40 84x48"),
    _template("1x1 2x2 4x2 6x3 10x5 16x8 22x11 30x15 38x19 46x23 60x30 74x37 90x45"),
    _template("1x1 2x2 5x2 10x4 15x6 20x8 25x10 30x12 40x16 50x20 65x26 80x32 100x40"),
    _template("1x1 2x2 6x2 9x3 15x5 21x7 27x9 36x12 45x15 54x18 72x24 90x30 111x37"),
)
# Square, then upright ones from 1.25 to 3 times as high as wide, then their transposes.
TEMPLATES: tuple[Template, ...] = _UPRIGHT + tuple(
    tuple((width, height) for height, width in template) for template in _UPRIGHT[1:]
)


@dataclass(frozen=True)
class Schedule:
    """The scales of one picture.

    Attributes:
      grids: those of the scales that are drawn, coarse to fine.
      limit: the grid that positions refer to.
    """

    grids: tuple[Grid, ...]
    limit: Grid

    @property
    def grid(self) -> Grid:
        """The finest grid, that of the latents."""
        return self.grids[-1]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Tokens of each scale."""
        return tuple(height * width for height, width in self.grids)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Tokens before each scale, and before the end."""
        return tuple(int(n) for n in np.cumsum([0, *self.counts]))

    @property
    def length(self) -> int:
        """Tokens of the picture."""
        return self.starts[-1]

    @cached_property
    def levels(self) -> Int[np.ndarray, " L"]:
        """Scale of every token."""
        return np.repeat(np.arange(len(self.grids)), self.counts)

    @cached_property
    def places(self) -> Int[np.ndarray, " L"]:
        """Index of every token within its scale."""
        return np.arange(self.length) - np.array(self.starts)[self.levels]

    def part(self, scale: int) -> slice:
        """The tokens of one scale."""
        return slice(self.starts[scale], self.starts[scale + 1])

    def angles(self, half: int, theta: float = 1e4) -> Float[np.ndarray, "L half"]:
        """Rotary angles of every token: half / 2 turn with its row, the rest with its column.

        Rows and columns are stretched to the positions of `limit` and rounded half to even, in
        float32 as the official code does.
        """
        count = half // 2
        frequencies = np.float32(theta) ** (-np.arange(count, dtype=np.float32) / count)
        parts = []
        for height, width in self.grids:
            row, column = (
                np.round(np.arange(n, dtype=np.float32) * np.float32(most / n))
                for n, most in zip((height, width), self.limit, strict=True)
            )
            axes = np.meshgrid(row, column, indexing="ij")
            parts.append(np.stack([axis.ravel() for axis in axes], axis=1))
        index = np.concatenate(parts)[..., None] * frequencies
        return index.reshape(self.length, 2 * count)


def schedule(templates: Sequence[Template], scales: int, grid: Grid) -> Schedule:
    """The first template whose `scales`-th grid is the given one.

    Raises:
      UserError: no template ends in that grid.
    """
    for template in templates:
        if template[scales - 1] == grid:
            return Schedule(template[:scales], template[-1])
    known = ", ".join(f"{h} x {w}" for h, w in (template[scales - 1] for template in templates))
    raise UserError(
        f"pictures of {grid[0]} x {grid[1]} image tokens cannot be drawn; known are {known}."
    )
