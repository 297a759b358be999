"""Pillow's bicubic resize of 8-bit pictures inside jit, equal to the last bit.

Pillow resizes along the width, then along the height, each time with fixed-point weights and
rounded to 8 bits (https://github.com/python-pillow/Pillow, src/libImaging/Resample.c).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

PRECISION = 22  # bits of the fixed-point weights
RADIUS = 2.0  # of the kernel, in pixels of the smaller picture


def bicubic(
    levels: Int[Array, "*batch H W C"], size: tuple[int, int]
) -> Int[Array, "*batch H2 W2 C"]:
    """Pictures of 0..255 in another size (height, width)."""
    if levels.shape[-2] != size[1]:
        levels = _along(levels, size[1], -2)
    if levels.shape[-3] != size[0]:
        levels = _along(levels, size[0], -3)
    return levels


def _along(levels: Array, size: int, axis: int) -> Array:
    index, weight = _taps(levels.shape[axis], size)
    moved = jnp.moveaxis(levels.astype(jnp.int32), axis, -1)
    total = jnp.sum(moved[..., index] * weight, axis=-1) + (1 << (PRECISION - 1))
    return jnp.moveaxis(jnp.clip(total >> PRECISION, 0, 255), -1, axis)


def _taps(
    before: int, after: int
) -> tuple[Int[np.ndarray, "after taps"], Int[np.ndarray, "after taps"]]:
    """Which pixels make a new one, and their weights."""
    scale = before / after
    stretch = max(scale, 1.0)
    reach = RADIUS * stretch
    center = (np.arange(after) + 0.5) * scale
    first = np.maximum((center - reach + 0.5).astype(int), 0)
    last = np.minimum((center + reach + 0.5).astype(int), before)
    index = first[:, None] + np.arange(math.ceil(reach) * 2 + 1)
    weight = _kernel((index - center[:, None] + 0.5) / stretch)
    weight = np.where(index < last[:, None], weight, 0.0)
    weight /= weight.sum(1, keepdims=True)
    fixed = np.trunc(weight * (1 << PRECISION) + np.copysign(0.5, weight)).astype(np.int32)
    return np.minimum(index, before - 1), fixed


def _kernel(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Keys' cubic convolution with a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
