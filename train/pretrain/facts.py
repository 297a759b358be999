"""What is true of the four cells of a scene, as the truth values that an encoder learns to tell."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from asg_jax.train.data.scenes import CELLS, COLORS, JITTER, SHADES, SHAPES, SIZES, Item, Scene

STEPS = range(-JITTER, JITTER)  # pixels: an item stands further down (or right) than this
LEVELS = range(SHADES[0] + 10, SHADES[1], 10)  # grey: the background is lighter than this
FACTS = len(SHAPES) + len(COLORS) + len(SIZES) + 2 * len(STEPS) + len(LEVELS)


def facts(scene: Scene) -> Bool[np.ndarray, "2 2 F"]:
    """Shape, colour, size and place of the item in every cell, none where there is no item.

    Then how light the background is. Numbers are told by the bounds that they exceed.
    """
    found = np.zeros((len(CELLS), FACTS), bool)
    for item in scene.items:
        told = _item(item)
        found[item.cell, : len(told)] = told
    found[:, -len(LEVELS) :] = [scene.shade > level for level in LEVELS]
    return found.reshape(2, 2, FACTS)


def _item(item: Item) -> list[bool]:
    named = ((SHAPES, item.shape), (COLORS, item.color), (SIZES, item.size))
    chosen = [name == own for names, own in named for name in names]
    return chosen + [shift > step for shift in item.shift for step in STEPS]
