"""SigLIP-NaViT: the understanding tower, pictures of any size on one position grid."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Image
from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.linear import Embedding, Linear
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.layers.norms import LayerNorm
from asg_jax.models.layers.stack import scan_layers, stacked


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the tower; defaults are those of SigLIP-so400m as BAGEL uses it."""

    width: int = 1152
    layers: int = 26
    heads: int = 16
    inner: int = 4304
    patch: int = 14
    channels: int = 3
    side: int = 70  # positions per side of the learned table
    eps: float = 1e-6
    activation: str = "gelu_pytorch_tanh"
    interpolate: bool = False  # positions stretched over the grid instead of anchored top-left
    dtype: str = "float32"
    remat: str = "none"


def grid_positions(
    grid: Int[Array, "B 2"], count: int, side: int, interpolate: bool = False
) -> Int[Array, "B N"]:
    """Row of a side x side position table for each of `count` patches in row-major order.

    Anchored at the top-left corner, or, interpolated, spread over the whole table: patch k of n
    goes to the bucket floor(k side / n). Patches beyond the grid get some valid row.
    """
    height, width = jnp.maximum(grid[:, :1], 1), jnp.maximum(grid[:, 1:], 1)
    row, column = jnp.divmod(jnp.arange(count), width)
    if interpolate:
        row, column = row * side // height, column * side // width
    return jnp.minimum(row * side + column, side * side - 1)


class EncoderLayer(nnx.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.layer_norm1 = LayerNorm(width, eps=config.eps)
        self.q_proj = Linear(width, width, rngs=rngs)
        self.k_proj = Linear(width, width, rngs=rngs)
        self.v_proj = Linear(width, width, rngs=rngs)
        self.out_proj = Linear(width, width, rngs=rngs)
        self.layer_norm2 = LayerNorm(width, eps=config.eps)
        self.mlp = MLP(width, config.inner, width, config.activation, rngs=rngs)
        self.heads = config.heads

    def __call__(self, x: Float[Array, "B N D"], mask: Bool[Array, "B N"]) -> Float[Array, "B N D"]:
        h = self.layer_norm1(x)
        q, k, v = (
            rearrange(projection(h), "b n (h d) -> b 1 n h d", h=self.heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = attention(q, [Block(k, v, mask[:, None, None])])
        x = x + self.out_proj(rearrange(mixed, "b 1 n h d -> b n (h d)"))
        return x + self.mlp(self.layer_norm2(x))


class VisionTower(nnx.Module):
    """Patches to features, full attention inside one picture."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        self.config = config
        inputs = config.channels * config.patch**2
        self.patch_embedding = Linear(inputs, config.width, rngs=rngs)
        # Large enough to be seen beside the patches: with less, a small model never learns places.
        self.position_embedding = Embedding(config.side**2, config.width, scale=0.5, rngs=rngs)
        self.layers = stacked(lambda rngs: EncoderLayer(config, rngs=rngs), config.layers, rngs)
        self.post_layernorm = LayerNorm(config.width, eps=config.eps)

    def positions(self, image: Image) -> Int[Array, "B N"]:
        """Row of the position tables of every patch."""
        config = self.config
        return grid_positions(image.grid, image.patches.shape[1], config.side, config.interpolate)

    def embed(self, image: Image) -> Float[Array, "B N D"]:
        """Patch embedding plus learned position."""
        x = self.patch_embedding(jnp.asarray(image.patches, self.config.dtype))
        return x + self.position_embedding(self.positions(image)).astype(x.dtype)

    def run(self, image: Image) -> Float[Array, "B N D"]:
        """The residual stream after the last layer."""

        def apply(layer: EncoderLayer, x, _):
            return layer(x, image.mask), None

        return scan_layers(apply, self.layers, self.embed(image), remat=self.config.remat)[0]

    def __call__(self, image: Image) -> Float[Array, "B N D"]:
        """Post-normed features."""
        return self.post_layernorm(self.run(image))
