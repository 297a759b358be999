"""Rows of the language model in the programs of a step: real ones, padding, and repeated ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asg_jax.backbone import Params, Prompt
from asg_jax.rollout.text import TextRollout, Texts
from asg_jax.train.evolve.rehearsal import Played


class Rows(NamedTuple):
    """Rows that a program puts through the language model.

    Attributes:
      room: as the program is compiled.
      done: rows computed, less those of a loop that ended sooner.
      real: rows less padding, and less texts that were over while others went on.
      again: real ones of pictures that the same parameters had seen in the step before.
    """

    room: int
    done: int
    real: int
    again: int


def count_rows(step: Sequence[Played]) -> list[Rows]:
    """The rows of every program of a step; see `Rows`."""
    seen: set[tuple[int, ...]] = set()
    return [_rows(played, seen) for played in step]


def _rows(played: Played, seen: set[tuple[int, ...]]) -> Rows:
    room = done = real = again = 0
    if played.name == "see":  # the vision tower alone
        return Rows(0, 0, 0, 0)
    is_text = lambda node: isinstance(node, Prompt | Texts | TextRollout)
    batch = played.arguments[-1]
    images = batch.viewing.pixels.shape[1] if hasattr(batch, "viewing") else 1
    own = lambda node: node.mask.ndim == (2 if isinstance(node, Prompt) else 3)
    given = [node for node in jax.tree.leaves(batch, is_leaf=is_text) if is_text(node)]
    made = jax.tree.leaves(played.out, is_leaf=is_text) if played.name != "learn" else ()
    times = [images if own(node) else 1 for node in given]  # once for every drawing
    met = [*zip(given, times, strict=True), *((node, 1) for node in made if is_text(node))]
    for node, count in met:
        size, kept = count * int(np.prod(node.mask.shape)), count * int(np.asarray(node.mask).sum())
        room, real = room + size, real + kept
        ran = size
        if isinstance(node, TextRollout):  # every text goes on until the last one is over
            ran = size // node.mask.shape[-1] * (int(np.asarray(node.steps).max()) + 1)
        done += ran
        if isinstance(node, Prompt) and isinstance(played.arguments[0], Params):
            again += kept * _repeats(played.arguments[0], node, seen)
    return Rows(room, done, real, again)


def _repeats(params: Params, prompt: Prompt, seen: set[tuple[int, ...]]) -> bool:
    """Whether the same factors met the same prompt before in the step; notes that they did."""
    arrays: Any = jax.tree.leaves((params.adapter, prompt.ids, prompt.features))
    met = tuple(map(id, arrays))
    known = met in seen
    seen.add(met)
    return known
