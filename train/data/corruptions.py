"""Scenes with one thing wrong: what a judge must notice and a false caption tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from asg_jax.train.data.phrases import choose
from asg_jax.train.data.scenes import CELLS, MAX_ITEMS, TRAINED, Combination, Item, Scene

CORRUPTIONS = ("color", "shape", "count", "position")


def content(items: Sequence[Item]) -> frozenset[tuple[str, str, int]]:
    """What the language can tell of a scene: shapes, colours and cells."""
    return frozenset((item.shape, item.color, item.cell) for item in items)


def corrupt(
    scene: Scene, kind: str, rng: np.random.Generator, pool: Sequence[Combination] = TRAINED
) -> Scene:
    """The scene with one attribute changed, so that its content is another.

    Args:
      scene: one to three items.
      kind: 'color' or 'shape' of one item, 'count' (one item more or less), or 'position' (one
        item goes to another cell and trades places with the item there, if there is one).
      rng: source of randomness.
      pool: combinations that a new colour, shape or item may make.
    """
    while True:  # trading two equal items changes nothing: draw again
        items = _CHANGES[kind](scene.items, rng, pool)
        if content(items) != content(scene.items):
            return replace(scene, items=tuple(sorted(items, key=lambda item: item.cell)))


def _color(
    items: Sequence[Item], rng: np.random.Generator, pool: Sequence[Combination]
) -> list[Item]:
    n = int(rng.integers(len(items)))
    colors = [color for shape, color in pool if shape == items[n].shape]
    return [*items[:n], replace(items[n], color=choose(rng, colors)), *items[n + 1 :]]


def _shape(
    items: Sequence[Item], rng: np.random.Generator, pool: Sequence[Combination]
) -> list[Item]:
    n = int(rng.integers(len(items)))
    shapes = [shape for shape, color in pool if color == items[n].color]
    return [*items[:n], replace(items[n], shape=choose(rng, shapes)), *items[n + 1 :]]


def _count(
    items: Sequence[Item], rng: np.random.Generator, pool: Sequence[Combination]
) -> list[Item]:
    fewer = len(items) > 1 and (len(items) == MAX_ITEMS or rng.random() < 0.5)
    if fewer:
        gone = int(rng.integers(len(items)))
        return [*items[:gone], *items[gone + 1 :]]
    free = set(range(len(CELLS))) - {item.cell for item in items}
    shape, color = choose(rng, pool)
    return [*items, replace(items[0], shape=shape, color=color, cell=choose(rng, sorted(free)))]


def _position(items: Sequence[Item], rng: np.random.Generator, _: object) -> list[Item]:
    start = choose(rng, items).cell
    end = choose(rng, set(range(len(CELLS))) - {start})
    trade = {start: end, end: start}
    return [replace(item, cell=trade.get(item.cell, item.cell)) for item in items]


_CHANGES = {"color": _color, "shape": _shape, "count": _count, "position": _position}
