"""Rotary position embedding."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotary_angles(
    positions: Int[Array, "*batch"], width: int, theta: float
) -> Float[Array, "*batch half"]:
    """Angles p * theta^(-2k / width), k < width / 2, in float32."""
    frequencies = theta ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    return positions[..., None].astype(jnp.float32) * frequencies


def rotate_halves(
    x: Float[Array, "*batch heads width"], angles: Float[Array, "*batch half"]
) -> Float[Array, "*batch heads width"]:
    """Rotates element k against element k + width / 2, the same way for every head."""
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
