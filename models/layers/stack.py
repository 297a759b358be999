"""Equal layers with stacked parameters, applied by one scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
from flax import nnx

Layer = TypeVar("Layer", bound=nnx.Module)

# What the backward pass keeps of a layer; everything else is recomputed.
REMAT: dict[str, Callable[[Callable], Callable]] = {
    "none": lambda body: body,
    "full": jax.checkpoint,
    "dots": partial(
        jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    ),
}


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
    """`carry, y = apply(layer, carry, x)` for every layer; the ys come back stacked."""
    graph, state = nnx.split(layers)

    def body(carry, inputs):
        state, x = inputs
        return apply(nnx.merge(graph, state), carry, x)

    return jax.lax.scan(REMAT[remat](body), carry, (state, xs))
