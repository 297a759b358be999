"""Devices: the mesh, and running a step on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from asg_jax.errors import UserError
from asg_jax.models.sharding import BATCH_AXES

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(BATCH_AXES)

Style = Literal["mesh", "pmap"]


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
    grid = np.asarray(devices).reshape(-1, fsdp, tensor)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def parallelize(
    step: Callable[[Any, Any], Any], mesh: Mesh, style: Style = "mesh"
) -> Callable[[Any, Any], Any]:
    """Compiles `step(params, batch) -> out` for a mesh.

    The first axis of every leaf of `batch` and `out` counts examples, a multiple of the devices
    that share them. Styles:
      mesh: jit with shardings; the parameters stay as they lie, whole or cut.
      pmap: each device runs its own share with a whole copy of the parameters, so that a decoding
        loop ends on each device by itself; for models that fit one device.
    """
    if style == "pmap":
        return _pmap(step, mesh)
    examples = NamedSharding(mesh, BATCH)
    compiled = jax.jit(step, in_shardings=(None, examples), out_shardings=examples)

    def run(params: Any, batch: Any) -> Any:
        with jax.set_mesh(mesh):  # tells the layers how to keep the batch cut
            return compiled(params, batch)

    return run


def _pmap(step: Callable[[Any, Any], Any], mesh: Mesh) -> Callable[[Any, Any], Any]:
    devices = list(mesh.devices.flat)
    mapped = jax.pmap(step, in_axes=(None, 0), devices=devices)
    cut = lambda x: x.reshape(len(devices), len(x) // len(devices), *x.shape[1:])
    join = lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    return lambda params, batch: jax.tree.map(join, mapped(params, jax.tree.map(cut, batch)))
