"""The convolutional encoder and decoder that the autoencoders share, channels last."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from asg_jax.models.layers.convolution import Conv, ResidualBlock, downsample, upsample
from asg_jax.models.layers.norms import GroupNorm
from asg_jax.models.sharding import BATCH_AXES

SLICE = 2**20  # pixels that one device takes at a time: a picture of 1024 x 1024

Widths = list[int]  # channels of every level, the full resolution first
Middle = Callable[..., nnx.Module]  # of channels, groups and rngs: the lowest resolution


def in_slices(
    network: Callable[[Array], Array], x: Float[Array, "B H W C"], pixels: int
) -> Float[Array, "B h w C2"]:
    """Applies an encoder or decoder to a few pictures of every device at a time.

    Memory then does not grow with the number of pictures. Few small ones make one slice.

    Args:
      network: treats every picture on its own.
      x: pictures or latents; a mesh that `jax.set_mesh` set cuts their first axis.
      pixels: number of pixels of a picture at full resolution.
    """
    mesh = jax.sharding.get_abstract_mesh()
    devices = math.prod(mesh.shape[axis] for axis in BATCH_AXES if axis in mesh.auto_axes)
    devices = devices if x.shape[0] % devices == 0 else 1
    count = x.shape[0] // devices
    size = max(n for n in range(1, count + 1) if count % n == 0 and (n * pixels <= SLICE or n == 1))
    if size == count:
        return network(x)
    # Each slice takes the next pictures of every device, so none of them travels.
    slices = jnp.moveaxis(x.reshape(devices, -1, size, *x.shape[1:]), 1, 0)

    def apply(part: Array) -> Array:
        out = network(part.reshape(devices * size, *x.shape[1:]))
        return out.reshape(devices, size, *out.shape[1:])

    out = jnp.moveaxis(jax.lax.map(apply, slices), 0, 1)
    return out.reshape(x.shape[0], *out.shape[3:])


class Level(nnx.Module):
    """Residual blocks at one resolution, and the convolution that leaves it (if any)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        resample: bool,
        groups: int,
        *,
        rngs: nnx.Rngs,
    ):
        widths = [inputs, *[outputs] * blocks]
        self.block = nnx.List(
            [ResidualBlock(width, outputs, groups=groups, rngs=rngs) for width in widths[:blocks]]
        )
        self.resample = Conv(outputs, outputs, 3, rngs=rngs) if resample else None

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C2"]:
        for block in self.block:
            x = block(x)
        return x


class PlainMiddle(nnx.Module):
    """Two residual blocks at the lowest resolution."""

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        self.block_1 = ResidualBlock(channels, channels, groups=groups, rngs=rngs)
        self.block_2 = ResidualBlock(channels, channels, groups=groups, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        return self.block_2(self.block_1(x))


class Encoder(nnx.Module):
    """Pictures to the lowest resolution."""

    def __init__(
        self,
        channels: tuple[int, int],
        widths: Widths,
        blocks: int,
        groups: int,
        middle: Middle = PlainMiddle,
        *,
        rngs: nnx.Rngs,
    ):
        inputs, outputs = channels
        last = len(widths) - 1
        self.conv_in = Conv(inputs, widths[0], 3, rngs=rngs)
        self.down = nnx.List(
            [
                Level(before, width, blocks, level < last, groups, rngs=rngs)
                for level, (before, width) in enumerate(
                    zip([widths[0], *widths], widths, strict=False)
                )
            ]
        )
        self.mid = middle(widths[-1], groups, rngs=rngs)
        self.norm_out = GroupNorm(widths[-1], groups=groups)
        self.conv_out = Conv(widths[-1], outputs, 3, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C2"]:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
            if level.resample is not None:
                x = downsample(x, level.resample)
        return self.conv_out(jax.nn.silu(self.norm_out(self.mid(x))))


class Decoder(nnx.Module):
    """The way back, one block more at each level; `up[0]` is the full resolution."""

    def __init__(
        self,
        channels: tuple[int, int],
        widths: Widths,
        blocks: int,
        groups: int,
        middle: Middle = PlainMiddle,
        *,
        rngs: nnx.Rngs,
    ):
        inputs, outputs = channels
        before = [*widths[1:], widths[-1]]
        self.conv_in = Conv(inputs, widths[-1], 3, rngs=rngs)
        self.mid = middle(widths[-1], groups, rngs=rngs)
        self.up = nnx.List(
            [
                Level(before[n], width, blocks + 1, n > 0, groups, rngs=rngs)
                for n, width in enumerate(widths)
            ]
        )
        self.norm_out = GroupNorm(widths[0], groups=groups)
        self.conv_out = Conv(widths[0], outputs, 3, rngs=rngs)

    def __call__(self, z: Float[Array, "B h w C"]) -> Float[Array, "B H W C2"]:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
            if level.resample is not None:
                x = upsample(x, level.resample)
        return self.conv_out(jax.nn.silu(self.norm_out(x)))
