"""What the towers of Qwen2-VL and Qwen2.5-VL share: places, rotary angles, merged patches."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from asg_jax.backbone import Image
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.layers.rotary import rotary_angles

EPS = 1e-6  # of all norms


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of a tower; defaults are those of Qwen2-VL-7B (arXiv 2409.12191)."""

    width: int = 1280
    layers: int = 32
    heads: int = 16
    inner: int = 5120
    patch: int = 14
    merge: int = 2  # patches per feature along a side
    frames: int = 2  # a still picture fills them all
    channels: int = 3
    theta: float = 1e4
    dtype: str = "float32"
    remat: str = "none"

    @property
    def patch_width(self) -> int:
        """Numbers in a patch."""
        return self.channels * self.frames * self.patch**2

    @property
    def patch_shape(self) -> tuple[int, int, int, int]:
        """(channels, frames, rows, columns) of a patch."""
        return self.channels, self.frames, self.patch, self.patch


def patch_places(
    grid: Int[Array, "B 2"], count: int, merge: int
) -> tuple[Int[Array, "B N"], Int[Array, "B N"]]:
    """Row and column of each of `count` patches; those that are merged follow each other.

    Patches beyond the grid get some place.
    """
    block, inner = jnp.divmod(jnp.arange(count), merge**2)
    row, column = jnp.divmod(block, jnp.maximum(grid[:, 1:] // merge, 1))
    return row * merge + inner // merge, column * merge + inner % merge


class PatchTower(nnx.Module):
    """The ends of a tower: patches to rows, and merged rows to features."""

    def __init__(
        self, config: VisionConfig, outputs: int, merger_norm: nnx.Module, *, rngs: nnx.Rngs
    ):
        merged = config.width * config.merge**2
        self.config = config
        self.patch_embedding = Linear(config.patch_width, config.width, bias=False, rngs=rngs)
        self.merger_norm = merger_norm
        self.merger = MLP(merged, merged, outputs, "gelu", rngs=rngs)

    def embed(self, image: Image) -> Float[Array, "B N W"]:
        """Patch embedding."""
        return self.patch_embedding(jnp.asarray(image.patches, self.config.dtype))

    def angles(self, image: Image) -> Float[Array, "B N half"]:
        """Rotary angles of every patch: half of them turn with its row, half with its column."""
        config = self.config
        width = config.width // config.heads // 2
        places = patch_places(image.grid, image.patches.shape[1], config.merge)
        return jnp.concatenate([rotary_angles(p, width, config.theta) for p in places], axis=-1)

    def merge(self, x: Float[Array, "B N W"]) -> Float[Array, "B M D"]:
        """Features, one for the patches that are merged; M = N / merge^2."""
        x = rearrange(self.merger_norm(x), "b (m p) w -> b m (p w)", p=self.config.merge**2)
        return self.merger(x)
