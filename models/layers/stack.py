"""Equal layers with stacked parameters, applied by one scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
from flax import nnx
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from asg_jax.models.sharding import BATCH_AXES

Layer = TypeVar("Layer", bound=nnx.Module)

_KEPT = "kept"
# What the backward pass keeps of a layer; everything else is recomputed.
REMAT: dict[str, Callable[[Callable], Callable]] = {
    "none": lambda body: body,
    "full": jax.checkpoint,
    "dots": partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names(_KEPT)),
}


def kept(x: Array) -> Array:
    """Marks what "dots" keeps: the results of linear maps and of attention, in their own dtype."""
    return checkpoint_name(x, _KEPT)


def cut_rows(x: Array) -> Array:
    """Cuts activations over the mesh that `jax.set_mesh` set, if any.

    Many rows (prefill, training, images) are cut along the batch, and layers gather their weights.
    Few rows (decoding) are cut along the width over `fsdp` instead, so that the weights stay where
    they lie and only sums of activations travel. Left alone, the compiler mixes the two.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not set(BATCH_AXES) <= set(mesh.auto_axes):
        return x
    *rows, width = x.shape
    few = math.prod(rows) < width * mesh.shape["data"]
    batch, last = (("data",), ("fsdp",)) if few else (BATCH_AXES, ())
    # What the mesh does not divide (one prompt on eight devices) is left to the compiler.
    cut = lambda size, axes: axes if size % math.prod(mesh.shape[a] for a in axes) == 0 else ()
    spec = [cut(rows[0], batch), *[()] * (len(rows) - 1), cut(width, last)]
    free = [axes or PartitionSpec.UNCONSTRAINED for axes in spec]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*free))


def stacked(make: Callable[[nnx.Rngs], Layer], count: int, rngs: nnx.Rngs) -> Layer:
    """One module whose parameters carry a leading axis of `count` layers."""
    return nnx.vmap(make)(rngs.split(count))


def scan_layers(
    apply: Callable[[Any, Any, Any], tuple[Any, Any]],
    layers: nnx.Module,
    carry: Any,
    xs: Any = None,
    *,
    remat: str = "none",
) -> tuple[Any, Any]:
    """`carry, y = apply(layer, carry, x)` for every layer; the ys come back stacked.

    The first axis of every leaf of the carry is the batch.
    """
    graph, state = nnx.split(layers)

    def body(carry, inputs):
        state, x = inputs
        return apply(nnx.merge(graph, state), jax.tree.map(cut_rows, carry), x)

    return jax.lax.scan(REMAT[remat](body), carry, (state, xs))
