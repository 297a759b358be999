"""Rotary position embedding."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def rotary_angles(
    positions: Int[Array, "*batch"], width: int, theta: float
) -> Float[Array, "*batch half"]:
    """Angles p * theta^(-2k / width), k < width / 2, in float32."""
    frequencies = theta ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    return positions[..., None].astype(jnp.float32) * frequencies


def sectioned_angles(
    positions: Int[Array, "*batch axes"], width: int, theta: float, sections: tuple[int, ...]
) -> Float[Array, "*batch half"]:
    """Angles of an index with several axes: `sections[a]` consecutive frequencies turn by axis a.

    An index with one axis stands for equal ones. (Multimodal rotary embedding, Qwen2-VL,
    arXiv 2409.12191, section 2.1.)
    """
    axis = np.repeat(np.arange(len(sections)), sections)
    positions = jnp.broadcast_to(positions, (*positions.shape[:-1], len(sections)))
    return rotary_angles(positions, width, theta)[..., axis, np.arange(width // 2)]


def rotate_halves(
    x: Float[Array, "*batch heads width"], angles: Float[Array, "*batch half"]
) -> Float[Array, "*batch heads width"]:
    """Rotates element k against element k + width / 2, the same way for every head."""
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)


def rotate_pairs(
    x: Float[Array, "*batch heads width"], angles: Float[Array, "*#batch half"]
) -> Float[Array, "*batch heads width"]:
    """Rotates element 2k against element 2k + 1, the same way for every head."""
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    first, second = x[..., 0::2].astype(jnp.float32), x[..., 1::2].astype(jnp.float32)
    rotated = jnp.stack([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.reshape(x.shape).astype(x.dtype)
