"""Multi-scale binary spherical quantisation: latents to bits of every scale and back.

Each scale holds the signs of what the coarser ones left over. (Binary spherical quantisation:
arXiv 2406.07548; residuals over scales: VAR, arXiv 2404.02905; flips: Infinity, arXiv 2412.04431.)
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from asg_jax.models.vargpt.scales import Grid, Schedule


def pooling(inputs: int, outputs: int) -> Float[np.ndarray, "outputs inputs"]:
    """Means over the cells floor(i n / m) to ceil((i + 1) n / m), which may overlap."""
    matrix = np.zeros((outputs, inputs), np.float32)
    for i in range(outputs):
        start, end = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
        matrix[i, start:end] = 1 / (end - start)
    return matrix


def interpolation(inputs: int, outputs: int) -> Float[np.ndarray, "outputs inputs"]:
    """Linear interpolation between half-pixel centres, never smoothed, also where it shrinks."""
    matrix = np.zeros((outputs, inputs), np.float32)
    scale = np.float32(inputs / outputs)
    source = np.maximum((np.arange(outputs, dtype=np.float32) + 0.5) * scale - 0.5, 0)
    low = np.minimum(source.astype(int), inputs - 1)
    share = source - low
    rows = np.arange(outputs)
    matrix[rows, low] += 1 - share
    matrix[rows, np.minimum(low + 1, inputs - 1)] += share
    return matrix


def _resample(x: Array, grid: Grid, weights) -> Array:
    height, width = x.shape[-3:-1]
    if (height, width) == grid:
        return x
    rows, columns = weights(height, grid[0]), weights(width, grid[1])
    # A sign decides a bit: no accelerator may round the operands.
    return jnp.einsum("ih,jw,...hwc->...ijc", rows, columns, x, precision="highest")


def shrink(x: Float[Array, "*batch H W C"], grid: Grid) -> Float[Array, "*batch h w C"]:
    """Adaptive average pooling."""
    return _resample(x, grid, pooling)


def stretch(x: Float[Array, "*batch H W C"], grid: Grid) -> Float[Array, "*batch h w C"]:
    """Linear resampling, up or down."""
    return _resample(x, grid, interpolation)


def codes(bits: Int[Array, "*batch C"]) -> Float[Array, "*batch C"]:
    """Unit vectors of bits: 1 is positive, 0 negative."""
    return (2.0 * bits - 1) / math.sqrt(bits.shape[-1])


def grow(
    total: Float[Array, "*batch H W C"], bits: Int[Array, "*batch n C"], grid: Grid
) -> Float[Array, "*batch H W C"]:
    """Adds the bits of one scale to the sum of the coarser ones."""
    height, width, channels = total.shape[-3:]
    code = codes(bits).reshape(*bits.shape[:-2], *grid, channels)
    return total + stretch(code, (height, width))


def residuals(
    latents: Float[Array, "*batch H W C"],
    schedule: Schedule,
    flips: Bool[Array, "*batch L C"] | None = None,
) -> tuple[Float[Array, "*batch L C"], Float[Array, "*batch H W C"]]:
    """What the coarser scales leave for every bit, and the sum of all scales.

    With flips the bits enter the sum flipped, and the later ones, unflipped themselves, correct
    that (bitwise self-correction, Infinity, section 3.4). No gradient passes through the bits.
    """
    total, found = jnp.zeros_like(latents), []
    for scale, grid in enumerate(schedule.grids):
        left = shrink(latents - total, grid)
        found.append(left.reshape(*left.shape[:-3], -1, left.shape[-1]))
        used = signs(found[-1])
        if flips is not None:
            used = used ^ flips[..., schedule.part(scale), :]
        total = grow(total, used, grid)
    return jnp.concatenate(found, axis=-2), total


def signs(residuals: Float[Array, "*batch C"]) -> Int[Array, "*batch C"]:
    """Bits of residuals: 1 is positive; zero gives 0."""
    return (residuals > 0).astype(jnp.int32)


def quantize(
    latents: Float[Array, "*batch H W C"],
    schedule: Schedule,
    flips: Bool[Array, "*batch L C"] | None = None,
) -> Int[Array, "*batch L C"]:
    """Sign bits of every scale's residual, coarse to fine; see `residuals`."""
    return signs(residuals(latents, schedule, flips)[0])


def dequantize(
    bits: Int[Array, "*batch L C"], schedule: Schedule
) -> tuple[Float[Array, "*batch inputs C"], Float[Array, "*batch H W C"]]:
    """What the scales after the first start from, and the sum of all scales.

    The inputs of a scale are the sum of the coarser ones on its own grid, tokens in the order of
    the bits; there are L - 1, none for the first token.
    """
    height, width = schedule.grid
    total = jnp.zeros((*bits.shape[:-2], height, width, bits.shape[-1]))
    inputs = [total.reshape(*bits.shape[:-2], -1, bits.shape[-1])[..., :0, :]]
    for scale, grid in enumerate(schedule.grids):
        if scale:
            inputs.append(scale_inputs(total, grid))
        total = grow(total, bits[..., schedule.part(scale), :], grid)
    return jnp.concatenate(inputs, axis=-2), total


def scale_inputs(total: Float[Array, "*batch H W C"], grid: Grid) -> Float[Array, "*batch n C"]:
    """The sum of coarser scales as the tokens of a scale."""
    resampled = stretch(total, grid)
    return resampled.reshape(*resampled.shape[:-3], -1, resampled.shape[-1])


def random_flips(
    key: Key[Array, ""], batch: tuple[int, ...], channels: int, schedule: Schedule
) -> Bool[Array, "*batch L C"]:
    """Which bits training flips: at each scale a share of 0, 1, .. or 30 %, one for the batch."""
    of_share, of_bits = jax.random.split(key)
    percent = jax.random.randint(of_share, (len(schedule.grids),), 0, 31)
    share = (percent / 100)[schedule.levels, None]
    return jax.random.uniform(of_bits, (*batch, schedule.length, channels)) < share
