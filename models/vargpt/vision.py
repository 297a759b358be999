"""The Qwen2-VL vision tower: pictures of any size, 2-D rotary positions, 2 x 2 patches merged."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Image
from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.layers.norms import LayerNorm
from asg_jax.models.layers.rotary import rotary_angles, rotate_halves
from asg_jax.models.layers.stack import scan_layers, stacked

EPS = 1e-6


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the tower; defaults are those of Qwen2-VL-7B (arXiv 2409.12191)."""

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


def quick_gelu(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """x sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


def patch_places(
    grid: Int[Array, "B 2"], count: int, merge: int
) -> tuple[Int[Array, "B N"], Int[Array, "B N"]]:
    """Row and column of each of `count` patches; those that are merged follow each other.

    Patches beyond the grid get some place.
    """
    block, inner = jnp.divmod(jnp.arange(count), merge**2)
    row, column = jnp.divmod(block, jnp.maximum(grid[:, 1:] // merge, 1))
    return row * merge + inner // merge, column * merge + inner % merge


class VisionLayer(nnx.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.norm1 = LayerNorm(width, eps=EPS)
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.norm2 = LayerNorm(width, eps=EPS)
        self.fc1 = Linear(width, config.inner, rngs=rngs)
        self.fc2 = Linear(config.inner, width, rngs=rngs)
        self.heads = config.heads

    def __call__(
        self, x: Float[Array, "B N D"], angles: Float[Array, "B N half"], mask: Bool[Array, "B N"]
    ) -> Float[Array, "B N D"]:
        q, k, v = rearrange(
            self.qkv(self.norm1(x)), "b n (three h d) -> three b n h d", three=3, h=self.heads
        )
        q, k = rotate_halves(q, angles), rotate_halves(k, angles)
        mixed = attention(q[:, None], [Block(k[:, None], v[:, None], mask[:, None, None])])
        x = x + self.proj(rearrange(mixed, "b 1 n h d -> b n (h d)"))
        return x + self.fc2(quick_gelu(self.fc1(self.norm2(x))))


class VisionTower(nnx.Module):
    """Patches to features of the language model, full attention inside one picture."""

    def __init__(self, config: VisionConfig, outputs: int, *, rngs: nnx.Rngs):
        self.config = config
        merged = config.width * config.merge**2
        self.patch_embedding = Linear(config.patch_width, config.width, bias=False, rngs=rngs)
        self.layers = stacked(lambda rngs: VisionLayer(config, rngs=rngs), config.layers, rngs)
        self.merger_norm = LayerNorm(config.width, eps=EPS)
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

    def __call__(self, image: Image) -> Float[Array, "B M D"]:
        """Features, one for the patches that are merged; M = N / merge^2."""
        angles = self.angles(image)

        def apply(layer: VisionLayer, x, _):
            return layer(x, angles, image.mask), None

        x, _ = scan_layers(apply, self.layers, self.embed(image), remat=self.config.remat)
        x = rearrange(self.merger_norm(x), "b (m p) w -> b m (p w)", p=self.config.merge**2)
        return self.merger(x)
