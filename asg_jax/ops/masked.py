"""Means over the items that exist; batches are padded, and a mask says what is real."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalar = float | Float[Array, ""]


def masked_mean(
    x: Float[Array, "*shape"],
    mask: Bool[Array, "*#shape"],
    axis: int | None = None,
    empty: float = 0.0,
) -> Float[Array, "..."]:
    """Mean of the items that the mask keeps, over one axis or all; `empty` where it keeps none."""
    mask = jnp.broadcast_to(mask, x.shape)
    count = mask.sum(axis)
    mean = jnp.where(mask, x, 0).sum(axis) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, empty)


def sequence_means(
    x: Float[Array, "*batch T"], mask: Bool[Array, "*batch T"]
) -> tuple[Float[Array, "*batch"], Bool[Array, "*batch"]]:
    """Token mean of every sequence, and which sequences have a token at all."""
    return masked_mean(x, mask, axis=-1), mask.any(-1)
