"""Batches and states between a process's own memory and the whole mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Shaped

from asg_jax.backbone import PyTree
from asg_jax.engine.placement import Program, Update
from asg_jax.errors import UserError
from asg_jax.models.sharding import Rules, state_shardings
from asg_jax.train.mesh import (
    BATCH,
    OnMesh,
    Share,
    Style,
    options_of,
    parallelize,
    share_of,
)


@dataclass(frozen=True)
class MeshPlacement:
    """The devices of all processes; implements `asg_jax.engine.placement.Placement`.

    Attributes:
      mesh: all processes' devices.
      style: how rollouts run on it.
      rules: sharding of the model's parameters, which states follow.
    """

    mesh: Mesh
    style: Style = "mesh"
    rules: Rules = ()

    @cached_property
    def share(self) -> Share:
        """The part of every batch that this process works on."""
        return share_of(self.mesh, jax.process_index())

    @property
    def shares(self) -> int:
        """See `Placement`."""
        return self.share.count

    def check(self, sizes: Mapping[str, int]) -> None:
        """Makes sure that the devices can share batches.

        Args:
          sizes: examples in batches of all processes, by name.

        Raises:
          UserError: they cannot share one evenly.
        """
        for name, size in sizes.items():
            if size % self.shares:
                raise UserError(
                    f"config.batch.{name} is {size}, which {self.shares} parts of the mesh cannot"
                    f" share evenly; choose a multiple of {self.shares}, or a larger"
                    " config.mesh.tensor."
                )

    def put(self, tree: PyTree) -> PyTree:
        """See `Placement`; row by row as `share.rows` says."""
        return jax.tree.map(self._put, tree)

    def get(self, tree: PyTree) -> PyTree:
        """See `Placement`; arrays that are not cut come back whole."""
        return jax.tree.map(_local, tree)

    def place_state(self, tree: PyTree) -> PyTree:
        """See `Placement`; adapters are cut like the kernels that they belong to."""
        return jax.tree.map(_lay, tree, state_shardings(tree, self.mesh, self.rules))

    def compile(self, program: Program) -> Program:
        """See `Placement`."""
        return parallelize(program, self.mesh, self.style)

    def compile_update(self, update: Update) -> Update:
        """See `Placement`."""
        compiled: list[Update] = []

        def run(parameters: PyTree, state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree, PyTree]:
            if not compiled:
                compiled.append(self.update_of(update, state))
            return compiled[0](parameters, state, batch)

        return run

    def update_of(self, update: Update, state: PyTree) -> OnMesh:
        """The program of an update of states that lie on devices as this one does."""
        whole, examples = (NamedSharding(self.mesh, spec) for spec in (PartitionSpec(), BATCH))
        lies = jax.tree.map(lambda leaf: leaf.sharding, state)
        shardings = {
            "in_shardings": (None, lies, examples),
            "out_shardings": (lies, whole, examples),
        }
        options = {"compiler_options": options_of(self.mesh), "donate_argnums": 1}
        return OnMesh(self.mesh, jax.jit(update, **options, **shardings))

    def _put(self, leaf: Shaped[np.ndarray, "rows ..."]) -> Shaped[Array, "all_rows ..."]:
        leaf, own = np.asarray(leaf), self.share
        size = len(leaf) // len(own.parts)  # rows of a part
        blocks = np.split(leaf, len(own.parts))
        place = {part * size: block for part, block in zip(own.parts, blocks, strict=True)}
        shape = (size * own.count, *leaf.shape[1:])
        found = lambda index: place[index[0].start or 0][(slice(None), *index[1:])]
        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, BATCH), found)


def _local(array: Shaped[Array, "..."]) -> Shaped[np.ndarray, "..."]:
    """The parts on this process's devices, each once, along the first axis."""
    if array.is_fully_addressable:
        return np.asarray(array)
    first = lambda shard: shard.index[0].start or 0 if shard.index else 0
    parts = {first(shard): shard.data for shard in array.addressable_shards}
    blocks = [np.asarray(parts[start]) for start in sorted(parts)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _lay(leaf: Any, sharding: Sharding) -> Array:
    """An array that every process has alike, laid on the devices of all."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    known = np.asarray(leaf)
    return jax.make_array_from_callback(known.shape, sharding, lambda index: known[index])


def whole(tree: PyTree) -> PyTree:
    """Arrays of all processes as NumPy arrays, in every process; all must call it."""
    return jax.tree.map(_whole, tree)


def _whole(array: Shaped[Array, "..."]) -> Shaped[np.ndarray, "..."]:
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array.addressable_data(0) if array.is_fully_replicated else array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
