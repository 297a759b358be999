"""Convolutional parts of the autoencoders, channels last."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from einops import repeat
from flax import nnx
from jaxtyping import Array, Float

from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.norms import GroupNorm


class Conv(nnx.Module):
    """2-D convolution with bias; `padding` zeros on every side (half the kernel by default)."""

    def __init__(self, inputs: int, outputs: int, size: int, *, rngs: nnx.Rngs):
        scale = 1 / math.sqrt(inputs * size * size)
        shape = (size, size, inputs, outputs)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), shape) * scale)
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(
        self, x: Float[Array, "B H W C"], *, stride: int = 1, padding: int | None = None
    ) -> Float[Array, "B h w C2"]:
        kernel = self.kernel[...].astype(x.dtype)
        pad = kernel.shape[0] // 2 if padding is None else padding
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + self.bias[...].astype(x.dtype)


class ResidualBlock(nnx.Module):
    """Twice norm, SiLU, 3x3 convolution; the input joins, through a linear map if it must widen."""

    def __init__(self, inputs: int, outputs: int, *, groups: int = 32, rngs: nnx.Rngs):
        self.norm1 = GroupNorm(inputs, groups=groups)
        self.conv1 = Conv(inputs, outputs, 3, rngs=rngs)
        self.norm2 = GroupNorm(outputs, groups=groups)
        self.conv2 = Conv(outputs, outputs, 3, rngs=rngs)
        self.nin_shortcut = Linear(inputs, outputs, rngs=rngs) if inputs != outputs else None

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C2"]:
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        h = self.conv2(jax.nn.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


def downsample(x: Float[Array, "B H W C"], conv: Conv) -> Float[Array, "B h w C"]:
    """Halves the resolution; the zeros stand at the bottom and right only."""
    return conv(jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), stride=2, padding=0)


def upsample(x: Float[Array, "B h w C"], conv: Conv) -> Float[Array, "B H W C"]:
    """Doubles the resolution by repetition, then convolves."""
    return conv(repeat(x, "b h w c -> b (h 2) (w 2) c"))
