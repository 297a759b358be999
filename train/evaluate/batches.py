"""Running a compiled program over many rows, in batches of one size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Key

PyTree = Any


def in_batches(program: Callable[[PyTree], PyTree], rows: PyTree, size: int) -> PyTree:
    """Applies a program to all rows, always to `size` of them, so that it is compiled once.

    The last batch is filled up with the last row, and what comes of that is dropped.

    Args:
      program: maps a tree of arrays with `size` rows to another.
      rows: arrays with equally many rows each.
      size: how many items a batch has.

    Returns:
      The program's results for all rows, on the host.
    """
    total = jax.tree.leaves(rows)[0].shape[0]
    indexes = [np.arange(start, start + size) for start in range(0, total, size)]
    take = lambda index: jax.tree.map(lambda x: x[np.minimum(index, total - 1)], rows)
    parts = [program(take(index)) for index in indexes]
    join = lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves])[:total]
    return jax.tree.map(join, *parts)


@partial(jax.jit, static_argnums=2)
def item_keys(
    key: Key[Array, ""], items: Int[Array | np.ndarray, " N"], samples: int
) -> Key[Array, "N {samples}"]:
    """A key for each sample of each item, which depends on the two numbers alone."""
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    return jax.vmap(fold, (0, None))(fold(key, items), np.arange(samples))
