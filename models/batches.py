"""Pictures of a batch as patches, padded to one bucket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL.Image import Image as Picture

from asg_jax.backbone import Image, host
from asg_jax.models.pictures import bucket

Array = np.ndarray


def patch_batch(
    arrays: Sequence[Float[Array, "_ _ 3"]], side: int, cut: Callable[..., Any]
) -> Image:
    """Pictures in [0, 1], whose sides are multiples of `side` pixels, cut into patches."""
    rows = [np.asarray(cut(array)) for array in arrays]
    grids = np.array([[a.shape[0] // side, a.shape[1] // side] for a in arrays], np.int32)
    padded = np.zeros((len(rows), bucket(max(map(len, rows))), rows[0].shape[-1]), np.float32)
    for to, own in zip(padded, rows, strict=True):
        to[: len(own)] = own
    return Image(
        host(padded), host(grids), host(np.arange(padded.shape[1]) < grids.prod(1)[:, None])
    )


def columns(
    pictures: Sequence[Sequence[Picture]], image: Callable[[Sequence[Picture]], Image]
) -> tuple[Image, ...]:
    """The i-th picture of every conversation in one `Image`; absent ones are all masked."""
    images = []
    for n in range(max(map(len, pictures), default=0)):
        filler = next(row[n] for row in pictures if len(row) > n)
        found = image([row[n] if len(row) > n else filler for row in pictures])
        present = np.array([len(row) > n for row in pictures])
        images.append(Image(found.patches, found.grid, found.mask & present[:, None]))
    return tuple(images)
