"""Conversations as rows: markers, texts and pictures in the chat format of Qwen2-VL.

Text advances all three axes of the rotary index together. The features of a picture that starts at
index p stand at (p, p + row, p + column), and what follows at the largest index so far plus one
(multimodal rotary embedding, Qwen2-VL, arXiv 2409.12191, section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from asg_jax.backbone import Prompt, host
from asg_jax.models.pictures import bucket

AXES = 3


@dataclass(frozen=True)
class Text:
    """Token ids, markers among them."""

    ids: Sequence[int]


@dataclass(frozen=True)
class View:
    """A picture as features of (rows, columns), which start at row `slot` of the features.

    `id` is the token that stands for a feature.
    """

    grid: tuple[int, int]
    slot: int
    id: int


@dataclass(frozen=True)
class DrawnRows:
    """A picture that is drawn: `count` rows of text, whose features start at row `slot`."""

    count: int
    slot: int
    id: int


Segment = Text | View | DrawnRows


def layout(conversations: Sequence[Sequence[Segment]], plain: bool = False) -> Prompt:
    """Conversations padded on the right to a bucket.

    Args:
      conversations: segments of each, possibly none.
      plain: all axes count the rows, pictures included, as in the losses of the official code.
    """
    rows = [_rows(segments) for segments in conversations]
    length = bucket(max(ids.shape[0] for ids, _, _ in rows))
    count = len(rows)
    ids, slot = np.zeros((count, length), np.int32), np.full((count, length), -1, np.int32)
    positions, mask = np.zeros((count, length, AXES), np.int32), np.zeros((count, length), bool)
    for n, (own_ids, own_slot, own_positions) in enumerate(rows):
        real = slice(len(own_ids))
        ids[n, real], slot[n, real], mask[n, real] = own_ids, own_slot, True
        positions[n, real] = np.arange(len(own_ids))[:, None] if plain else own_positions
    order = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape)
    return Prompt(host(ids), host(slot), host(positions), host(order), host(mask), causal=True)


def _rows(
    segments: Sequence[Segment],
) -> tuple[Int[np.ndarray, " T"], Int[np.ndarray, " T"], Int[np.ndarray, "T 3"]]:
    """Ids, slots and rotary indexes of one conversation."""
    ids, slots, positions = [], [], []
    start = 0
    for segment in segments:
        if isinstance(segment, View):
            count = segment.grid[0] * segment.grid[1]
            row, column = np.divmod(np.arange(count), segment.grid[1])
            index = start + np.stack([np.zeros_like(row), row, column], axis=1)
        else:
            count = len(segment.ids) if isinstance(segment, Text) else segment.count
            index = np.repeat(start + np.arange(count)[:, None], AXES, axis=1)
        if isinstance(segment, Text):
            ids.append(np.array(segment.ids, np.int32))
            slots.append(np.full(count, -1, np.int32))
        else:
            ids.append(np.full(count, segment.id, np.int32))
            slots.append(segment.slot + np.arange(count, dtype=np.int32))
        positions.append(index.astype(np.int32))
        start = int(index.max(initial=start - 1)) + 1
    nothing = np.zeros(0, np.int32)
    return (
        np.concatenate([nothing, *ids]),
        np.concatenate([nothing, *slots]),
        np.concatenate([np.zeros((0, AXES), np.int32), *positions]),
    )
