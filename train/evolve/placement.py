"""Batches between a process's own memory and the whole mesh."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

from asg_jax.backbone import PyTree
from asg_jax.errors import UserError
from asg_jax.models.sharding import BATCH_AXES
from asg_jax.train.mesh import BATCH


@dataclass(frozen=True)
class Placement:
    """Puts the batch of every process on a mesh, and gets each process's rows back.

    Attributes:
      mesh: of all processes.
    """

    mesh: Mesh

    def put(self, tree: PyTree) -> PyTree:
        """Global arrays whose first axis joins the rows of all processes, in their order.

        Raises:
          UserError: the devices cannot share the rows evenly.
        """
        return jax.tree.map(self._put, tree)

    def get(self, tree: PyTree) -> PyTree:
        """This process's rows of global arrays; arrays that are not cut come back whole."""
        return jax.tree.map(_local, tree)

    def _put(self, leaf: Shaped[np.ndarray, "rows ..."]) -> Shaped[Array, "all_rows ..."]:
        leaf = np.asarray(leaf)
        rows = len(leaf) * jax.process_count()
        shares = math.prod(self.mesh.shape[name] for name in BATCH_AXES)
        if rows % shares:
            raise UserError(
                f"{rows} examples cannot be shared by {shares} devices; choose config.batch as"
                " multiples of them, or a larger config.mesh.tensor."
            )
        return jax.make_array_from_process_local_data(NamedSharding(self.mesh, BATCH), leaf)


def _local(array: Shaped[Array, "..."]) -> Shaped[np.ndarray, "..."]:
    """The parts on this process's devices, each once, along the first axis."""
    if array.is_fully_addressable:
        return np.asarray(array)
    first = lambda shard: shard.index[0].start or 0 if shard.index else 0
    parts = {first(shard): shard.data for shard in array.addressable_shards}
    blocks = [np.asarray(parts[start]) for start in sorted(parts)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays that every process has alike, whole on every device of a mesh."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Array) -> Array:
        known = np.asarray(leaf)
        return jax.make_array_from_callback(known.shape, sharding, lambda index: known[index])

    return jax.tree.map(put, tree)


def whole(tree: PyTree) -> PyTree:
    """Arrays of all processes as NumPy arrays, in every process; all must call it."""
    return jax.tree.map(_whole, tree)


def _whole(array: Shaped[Array, "..."]) -> Shaped[np.ndarray, "..."]:
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array.addressable_data(0) if array.is_fully_replicated else array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
