"""EVA-CLIP, which turns pictures into the features that BLIP3o draws (arXiv 2303.15389)."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from einops import rearrange, reduce
from flax import nnx
from jaxtyping import Array, Float, Int

from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.layers.norms import LayerNorm
from asg_jax.models.layers.qwen.pictures import MEAN, STD
from asg_jax.models.layers.resample import bicubic
from asg_jax.models.layers.stack import scan_layers, stacked

EPS = 1e-6


@dataclass(frozen=True)
class EVAConfig:
    """Sizes of the tower; defaults are those of EVA-CLIP E/14+ at 448 pixels."""

    width: int = 1792
    layers: int = 64
    heads: int = 16
    inner: int = 15360
    side: int = 448  # of a picture, in pixels
    patch: int = 14
    pool: int = 4  # patches per target along a side
    dtype: str = "float32"
    remat: str = "none"

    @property
    def tokens(self) -> int:
        """Patches along a side."""
        return self.side // self.patch


def square(levels: Int[Array, "B H W 3"], side: int) -> Int[Array, "B {side} {side} 3"]:
    """Pictures of 0..255 resized by their short side, then cut to the middle."""
    height, width = levels.shape[1:3]
    short = min(height, width)
    size = int(side * height / short), int(side * width / short)
    top, left = (round((n - side) / 2) for n in size)
    return bicubic(levels, size)[:, top : top + side, left : left + side]


class EVALayer(nnx.Module):
    """Attention and MLP, each normed after it has run."""

    def __init__(self, config: EVAConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.norm1, self.norm2 = LayerNorm(width, eps=EPS), LayerNorm(width, eps=EPS)
        self.mlp = MLP(width, config.inner, width, "gelu", rngs=rngs)
        self.heads = config.heads

    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        q, k, v = rearrange(
            self.qkv(x), "b n (three h d) -> three b 1 n h d", three=3, h=self.heads
        )
        mixed = rearrange(attention(q, [Block(k, v)]), "b 1 n h d -> b n (h d)")
        x = x + self.norm1(self.proj(mixed))
        return x + self.norm2(self.mlp(x))


class EVA(nnx.Module):
    """Pictures to tokens, without a final norm."""

    def __init__(self, config: EVAConfig, *, rngs: nnx.Rngs):
        width, rows = config.width, 1 + config.tokens**2
        self.config = config
        self.patch_embedding = Linear(3 * config.patch**2, width, rngs=rngs)
        self.first = nnx.Param(jnp.zeros(width))  # the class token
        self.positions = nnx.Param(jnp.zeros((rows, width)))
        self.layers = stacked(lambda rngs: EVALayer(config, rngs=rngs), config.layers, rngs)

    def embed(self, pixels: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        """Rows of square pictures in [0, 1], the class token first."""
        p, positions = self.config.patch, self.positions[...].astype(self.config.dtype)
        patches = rearrange((pixels - MEAN) / STD, "b (h p) (w q) c -> b (h w) (c p q)", p=p, q=p)
        rows = self.patch_embedding(patches.astype(positions.dtype))
        first = jnp.broadcast_to(self.first[...].astype(rows.dtype), (*rows[:, :1].shape,))
        return jnp.concatenate([first, rows], axis=1) + positions

    def __call__(self, pixels: Float[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        """Tokens of square pictures in [0, 1] in row-major order."""
        apply = lambda layer, x, _: (layer(x), None)
        x, _ = scan_layers(apply, self.layers, self.embed(pixels), remat=self.config.remat)
        return x[:, 1:]

    def targets(self, pixels: Float[Array, "B H W 3"]) -> Float[Array, "B L D"]:
        """Pooled tokens of pictures in [0, 1] of any size."""
        config = self.config
        levels = jnp.round(jnp.clip(pixels, 0, 1) * 255).astype(jnp.int32)
        tokens = self(square(levels, config.side) / 255).astype(jnp.float32)
        return reduce(
            tokens,
            "b (h p w q) d -> b (h w) d",
            "mean",
            h=config.tokens // config.pool,
            w=config.tokens // config.pool,
            p=config.pool,
            q=config.pool,
        )
