"""What the golden files of models around a Qwen-VL share: patches and rows of token ids."""

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.backbone import Image, host
from asg_jax.models.layers.qwen.layout import Text, View
from asg_jax.models.pictures import bucket


def image_of(patches: list[np.ndarray], grids: list[np.ndarray]) -> Image:
    """An `Image` of flattened patches, padded to a bucket as the processor does."""
    count = bucket(max(map(len, patches)))
    padded = np.stack([np.pad(rows, ((0, count - len(rows)), (0, 0))) for rows in patches])
    sizes = np.stack(grids).astype(np.int32)
    mask = np.arange(count) < sizes.prod(1)[:, None]
    return jax.tree.map(jnp.asarray, Image(host(padded), host(sizes), host(mask)))


def segments(ids, grids, slots, picture):
    """Texts and views of a row of token ids."""
    found, start, seen = [], 0, 0
    while start < len(ids):
        run = start
        while run < len(ids) and (ids[run] == picture) == (ids[start] == picture):
            run += 1
        if ids[start] == picture:
            height, width = np.asarray(grids[seen])
            assert run - start == height * width
            found.append(View((int(height), int(width)), slots[seen], picture))
            seen += 1
        else:
            found.append(Text(ids[start:run].tolist()))
        start = run
    return found
