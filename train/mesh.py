"""Devices: the mesh, and running a step on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental.mesh_utils import create_device_mesh
from jax.extend.core import Jaxpr
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from asg_jax.errors import UserError
from asg_jax.models.sharding import BATCH_AXES
from asg_jax.train.compiler import compiler_options

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(BATCH_AXES)

Style = Literal["mesh", "pmap"]


@dataclass(frozen=True)
class Share:
    """The part of every batch that one process works on.

    Attributes:
      parts: those that it has, of those into which devices cut a batch.
      count: how many parts they cut it into.
      first: whether no process before has the same parts.
    """

    parts: tuple[int, ...] = (0,)
    count: int = 1
    first: bool = True

    def rows(self, total: int) -> tuple[int, ...]:
        """Places of its examples in a batch, which `count` divides."""
        size = total // self.count
        return tuple(row for part in self.parts for row in range(part * size, (part + 1) * size))


def make_mesh(fsdp: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with axes data, fsdp and tensor; `data` takes the devices that the others leave.

    Raises:
      UserError: the number of devices is no multiple of fsdp * tensor.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % (fsdp * tensor):
        raise UserError(
            f"{len(devices)} devices cannot be cut into fsdp={fsdp} times tensor={tensor}; "
            "choose factors of the number of devices."
        )
    shape = (len(devices) // (fsdp * tensor), fsdp, tensor)
    grid = create_device_mesh(shape, devices, allow_split_physical_axes=True)  # near ones together
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def share_of(mesh: Mesh, process: int) -> Share:
    """What a process works on: the parts of a batch that lie on its devices.

    Processes whose devices hold the same part, as where `tensor` spans them, get equal examples.

    Raises:
      UserError: processes have different numbers of parts, or some in common and others not.
    """
    of: dict[int, set[int]] = {}
    for (data, fsdp, _), device in np.ndenumerate(mesh.devices):
        of.setdefault(device.process_index, set()).add(data * mesh.shape["fsdp"] + fsdp)
    own = of[process]
    for other in of.values():
        if len(other) != len(own) or (other != own and other & own):
            raise UserError(
                f"the devices of {len(of)} processes cannot share batches evenly with "
                f"fsdp={mesh.shape['fsdp']} and tensor={mesh.shape['tensor']}; let mesh.tensor be "
                "a factor or a multiple of the devices of a process."
            )
    count = mesh.shape["data"] * mesh.shape["fsdp"]
    return Share(tuple(sorted(own)), count, process == min(p for p in of if of[p] == own))


def parallelize(step: Callable[[Any, Any], Any], mesh: Mesh, style: Style = "mesh") -> OnMesh:
    """Compiles `step(params, batch) -> out` for a mesh.

    The first axis of every leaf of `batch` and `out` counts examples, a multiple of the devices
    that share them. Styles:
      mesh: jit with shardings; the parameters stay as they lie, whole or cut.
      pmap: each device runs its own share with a whole copy of the parameters, so that a decoding
        loop ends on each device by itself; for models that fit one device.
    """
    if style == "pmap":
        specs = {"in_specs": (PartitionSpec(), BATCH), "out_specs": BATCH}
        shared = jax.shard_map(step, mesh=mesh, check_vma=False, **specs)
        return OnMesh(mesh, jax.jit(shared, compiler_options=options_of(mesh)))
    examples = NamedSharding(mesh, BATCH)
    laid = {"in_shardings": (None, examples), "out_shardings": examples}
    return OnMesh(mesh, jax.jit(step, compiler_options=options_of(mesh), **laid))


def options_of(mesh: Mesh) -> dict[str, Any]:
    """What the compiler is told for the devices of a mesh."""
    return compiler_options(mesh.devices.flat[0].platform)


@dataclass(frozen=True)
class OnMesh:
    """A program that runs on a mesh, which tells its layers how to keep batches cut.

    Attributes:
      mesh: set while the program is traced and while it runs.
      compiled: what `jax.jit` returns.
    """

    mesh: Mesh
    compiled: Any

    def __call__(self, *arguments: Any) -> Any:
        with jax.set_mesh(self.mesh):
            return self.compiled(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """The program for arguments of these shapes, ready to be compiled."""
        with jax.set_mesh(self.mesh):
            return self.compiled.lower(*arguments)

    def jaxpr(self, *arguments: Any) -> Jaxpr:
        """What the program computes of arguments of these shapes, all devices together."""
        with jax.set_mesh(self.mesh):
            return self.compiled.trace(*arguments).jaxpr.jaxpr
