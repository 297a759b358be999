"""The diffusion transformer of BLIP3o: velocities of CLIP features under the states of queries.

A Lumina-type block (Lumina-Next, arXiv 2406.18583) with one output map for self- and
cross-attention: a gate of each head lets the cross-attention in before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.embeddings import TimestepEmbedding
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.mlp import MLP, GatedMLP
from asg_jax.models.layers.norms import LayerNorm, RMSNorm, standardize
from asg_jax.models.layers.rotary import rotary_angles, rotate_pairs
from asg_jax.models.layers.stack import scan_layers, stacked
from asg_jax.pytree import pytree

THETA = 1e4
OUT_EPS = 1e-6


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of the transformer; defaults are those of BLIP3o-8B (arXiv 2505.09568)."""

    width: int = 1792
    layers: int = 24
    heads: int = 28
    kv_heads: int = 28
    inner: int = 4864
    side: int = 8  # tokens of a picture along a side
    channels: int = 1792  # of a token
    eps: float = 1e-5
    dtype: str = "float32"
    remat: str = "none"

    @property
    def embedding(self) -> int:
        """Width of the embedding of time and caption."""
        return min(self.width, 1024)

    @property
    def head_width(self) -> int:
        """Width of a head."""
        return self.width // self.heads


@pytree
class CaptionContext:
    """All that the transformer reads of a condition, whatever the picture and the time.

    Attributes:
      pooled: its part of the embedding that modulates every block.
      keys: those of the cross-attention in every block.
      values: the values beside them. All tokens of the condition are the same without a prompt, and
        one stands for them: a softmax over equal keys is uniform.
    """

    pooled: Float[Array, "B E"]
    keys: Float[Array, "layers B Q kv_heads width"]
    values: Float[Array, "layers B Q kv_heads width"]


def grid_angles(side: int, head_width: int) -> Float[Array, "L half"]:
    """Rotary angles of a square grid in row-major order: pairs turn with row, column, row, ..."""
    places = jnp.divmod(jnp.arange(side * side), side)
    row, column = (rotary_angles(place, head_width // 2, THETA) for place in places)
    return jnp.stack([row, column], axis=-1).reshape(side * side, -1)


class Projections(nnx.Module):
    """Queries, keys and values; queries and keys are normed before they are cut into heads."""

    def __init__(self, config: DiTConfig, *, rngs: nnx.Rngs):
        width, kv_width = config.width, config.kv_heads * config.head_width
        self.to_q = Linear(width, width, bias=False, rngs=rngs)
        self.to_k = Linear(width, kv_width, bias=False, rngs=rngs)
        self.to_v = Linear(width, kv_width, bias=False, rngs=rngs)
        self.norm_q = LayerNorm(width, eps=config.eps)
        self.norm_k = LayerNorm(kv_width, eps=config.eps)
        self.head_width = config.head_width

    def queries(self, x: Float[Array, "*batch W"]) -> Float[Array, "*batch heads width"]:
        """Normed queries, cut into heads."""
        return self._heads(self.norm_q(self.to_q(x)))

    def keys(self, x: Float[Array, "*batch W"]) -> Float[Array, "*batch kv_heads width"]:
        """Normed keys, cut into heads."""
        return self._heads(self.norm_k(self.to_k(x)))

    def values(self, x: Float[Array, "*batch W"]) -> Float[Array, "*batch kv_heads width"]:
        """Values, cut into heads."""
        return self._heads(self.to_v(x))

    def _heads(self, x: Array) -> Array:
        return rearrange(x, "... (h d) -> ... h d", d=self.head_width)


class DiTBlock(nnx.Module):
    """Attention to the picture and to the condition, then a gated MLP; no shifts."""

    def __init__(self, config: DiTConfig, *, rngs: nnx.Rngs):
        width, norm = config.width, lambda: RMSNorm(config.width, eps=config.eps)
        self.modulation = Linear(config.embedding, 4 * width, rngs=rngs)
        self.norm1, self.norm2, self.context_norm = norm(), norm(), norm()
        self.attn1 = Projections(config, rngs=rngs)
        self.attn2 = Projections(config, rngs=rngs)
        self.to_out = Linear(width, width, bias=False, rngs=rngs)
        self.gate = nnx.Param(jnp.zeros(config.heads))
        self.ffn_norm1, self.ffn_norm2 = norm(), norm()
        self.mlp = GatedMLP(width, config.inner, rngs=rngs)

    def context(
        self, caption: Float[Array, "B Q W"]
    ) -> tuple[Float[Array, "B Q kv_heads width"], Float[Array, "B Q kv_heads width"]]:
        """Keys and values of the cross-attention."""
        context = self.context_norm(caption)
        return self.attn2.keys(context), self.attn2.values(context)

    def __call__(
        self,
        x: Float[Array, "B G2 L W"],
        embedding: Float[Array, "B G2 E"],
        angles: Float[Array, "L half"],
        context: tuple[Array, Array],
        null: Float[Array, "1 1 kv_heads width"] | None,
    ) -> Float[Array, "B G2 L W"]:
        """The first G rows read the context; the others, if any, see only the `null` value."""
        scale, gate, mlp_scale, mlp_gate = jnp.split(
            self.modulation(jax.nn.silu(embedding))[:, :, None], 4, axis=-1
        )
        h = self.norm1(x) * (1 + scale)
        own = self.attention(h, angles)
        cross = self.cross(h, angles, context, null)
        mixed = own + jnp.tanh(self.gate[...].astype(x.dtype))[:, None] * cross
        out = self.to_out(rearrange(mixed, "b g l h d -> b g l (h d)"))
        x = x + jnp.tanh(gate) * self.norm2(out)
        h = self.mlp(self.ffn_norm1(x) * (1 + mlp_scale))
        return x + jnp.tanh(mlp_gate) * self.ffn_norm2(h)

    def attention(
        self, h: Float[Array, "B G2 L W"], angles: Float[Array, "L half"]
    ) -> Float[Array, "B G2 L heads width"]:
        """Self-attention before the output map."""
        q, k = rotate_pairs(self.attn1.queries(h), angles), rotate_pairs(self.attn1.keys(h), angles)
        return attention(q, [Block(k, self.attn1.values(h))])

    def cross(
        self,
        h: Float[Array, "B G2 L W"],
        angles: Float[Array, "L half"],
        context: tuple[Array, Array],
        null: Float[Array, "1 1 kv_heads width"] | None,
    ) -> Float[Array, "B G2 L heads width"]:
        """Cross-attention before its gate; only queries turn with their place."""
        samples = h.shape[1] if null is None else h.shape[1] // 2
        q = rotate_pairs(self.attn2.queries(h[:, :samples]), angles)
        cross = attention(q, [Block(*context)])
        if null is None:
            return cross
        constant = jnp.repeat(null, q.shape[-2] // null.shape[-2], axis=-2)[:, :, None]
        return jnp.concatenate([cross, jnp.broadcast_to(constant, cross.shape)], axis=1)


class DiT(nnx.Module):
    """The transformer between its embeddings and its output map."""

    def __init__(self, config: DiTConfig, condition: int, *, rngs: nnx.Rngs):
        width, embedding = config.width, config.embedding
        self.config = config
        self.caption_projection = MLP(condition, width, width, "gelu_pytorch_tanh", rngs=rngs)
        self.caption_norm = LayerNorm(width, eps=config.eps)
        self.caption_embedder = Linear(width, embedding, rngs=rngs)
        self.time_embedder = TimestepEmbedding(embedding, rngs=rngs)
        self.patch_embedder = Linear(config.channels, width, rngs=rngs)
        self.layers = stacked(lambda rngs: DiTBlock(config, rngs=rngs), config.layers, rngs)
        self.out_modulation = Linear(embedding, width, rngs=rngs)
        self.out = Linear(width, config.channels, rngs=rngs)

    def caption(self, z: Float[Array, "B Q D"]) -> CaptionContext:
        """Projects the states of the queries, once for all steps and pictures."""
        projected = self.caption_projection(z.astype(self.config.dtype))
        pooled = self.caption_embedder(self.caption_norm(projected.mean(1)))
        contexts = lambda layer, carry, _: (carry, layer.context(projected))
        _, (keys, values) = scan_layers(contexts, self.layers, projected)
        return CaptionContext(pooled, keys, values)

    def __call__(
        self,
        x: Float[Array, "B G L C"],
        timestep: Float[Array, "B G"],
        caption: CaptionContext,
        null: CaptionContext | None = None,
    ) -> tuple[Float[Array, "B G L C"], ...]:
        """Velocity (noise - data) under the caption, and under `null` where that is given.

        Args:
          x: noisy tokens in row-major order.
          timestep: 1000 times the share of noise, as the network has learned it.
          caption: what every prompt asks for.
          null: the condition without a prompt, one row for all.
        """
        config = self.config
        time = self.time_embedder(timestep, config.dtype)
        embedding, rows = time + caption.pooled[:, None], self.patch_embedder(x.astype(time.dtype))
        if null is not None:
            embedding = jnp.concatenate([embedding, time + null.pooled[:, None]], axis=1)
            rows = jnp.concatenate([rows, rows], axis=1)
        angles = grid_angles(config.side, config.head_width)

        def apply(layer: DiTBlock, rows, inputs):
            keys, values, constant = inputs
            return layer(rows, embedding, angles, (keys, values), constant), None

        contexts = caption.keys, caption.values, None if null is None else null.values
        rows, _ = scan_layers(apply, self.layers, rows, contexts, remat=config.remat)
        scale = self.out_modulation(jax.nn.silu(embedding))[:, :, None]
        velocity = self.out(standardize(rows, OUT_EPS) * (1 + scale)).astype(jnp.float32)
        return (velocity,) if null is None else tuple(jnp.split(velocity, 2, axis=1))
