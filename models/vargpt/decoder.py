"""The visual decoder: a scale-causal transformer from states of the language model to bits.

Self attention compares directions (cosine attention), every block is modulated by one vector that
is the same for all prompts, and prompts enter through cross attention alone. (Infinity, arXiv
2412.04431, as VARGPT-v1.1, arXiv 2504.02949, uses it.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float

from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.linear import Embedding, Linear
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.layers.norms import LayerNorm, RMSNorm, standardize
from asg_jax.models.layers.rotary import rotate_pairs
from asg_jax.models.layers.stack import scan_layers, stacked
from asg_jax.ops.bounds import at_least
from asg_jax.pytree import pytree

EPS = 1e-6
MAX_SCALE = math.log(100)  # upper bound of the logarithm of the attention's temperature

KeysValues = tuple[Float[Array, "layers ..."], Float[Array, "layers ..."]]


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder; defaults are those of Infinity-2B."""

    width: int = 2048
    layers: int = 32
    heads: int = 16
    inner: int = 8192
    text_rows: int = 512  # of the unconditional context
    levels: int = 15  # rows of the table of scales
    chunk: int = 4  # blocks that a checkpoint puts under one name
    dtype: str = "float32"
    remat: str = "none"


@pytree
class Modulation:
    """What the condition vector makes of itself, once for each parameter version.

    Attributes:
      vector: the condition itself.
      first: the first token of the sequence.
      blocks: two gains, two scales and two shifts that all blocks share.
      head: scale and shift of the last norm.
    """

    vector: Float[Array, "B C"]
    first: Float[Array, "B C"]
    blocks: Float[Array, "B 6 C"]
    head: Float[Array, "B 2 C"]


class SelfAttention(nnx.Module):
    """Cosine attention with a temperature for each head and 2-D rotary positions."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.qkv = Linear(width, 3 * width, bias=False, rngs=rngs)
        self.q_bias = nnx.Param(jnp.zeros(width))
        self.v_bias = nnx.Param(jnp.zeros(width))
        self.scale = nnx.Param(jnp.full((config.heads,), math.log(4.0)))
        self.proj = Linear(width, width, rngs=rngs)

    def project(
        self, x: Float[Array, "B G n C"], angles: Float[np.ndarray | Array, "n half"]
    ) -> tuple[Array, Array, Array]:
        """Queries and keys of the new tokens, rotated and of fixed length, and values."""
        heads = self.scale.shape[0]
        q, k, v = jnp.split(self.qkv(x), 3, axis=-1)
        q = q + self.q_bias[...].astype(x.dtype)
        v = v + self.v_bias[...].astype(x.dtype)
        q, k, v = (rearrange(y, "b g n (h d) -> b g n h d", h=heads) for y in (q, k, v))
        temperature = jnp.exp(jnp.minimum(self.scale[...].astype(jnp.float32), MAX_SCALE))
        # The shared attention divides by sqrt(width), this one does not.
        q = _directions(q) * (temperature[:, None] * math.sqrt(q.shape[-1]))
        rotate = lambda y: rotate_pairs(y, jnp.asarray(angles)[None, None]).astype(x.dtype)
        return rotate(q), rotate(_directions(k)), v


class CrossAttention(nnx.Module):
    """Attention to the rows of the prompt."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.q = Linear(width, width, rngs=rngs)
        self.kv = Linear(width, 2 * width, bias=False, rngs=rngs)
        self.v_bias = nnx.Param(jnp.zeros(width))
        self.proj = Linear(width, width, rngs=rngs)
        self.heads = config.heads

    def project(self, context: Float[Array, "B T C"]) -> tuple[Array, Array]:
        """Keys and values of a prompt: the same at every scale."""
        k, v = jnp.split(self.kv(context), 2, axis=-1)
        v = v + self.v_bias[...].astype(v.dtype)
        split = lambda y: rearrange(y, "b t (h d) -> b t h d", h=self.heads)
        return split(k), split(v)

    def __call__(self, x: Float[Array, "B G n C"], context: Block) -> Float[Array, "B G n C"]:
        q = rearrange(self.q(x), "b g n (h d) -> b g n h d", h=self.heads)
        return self.proj(rearrange(attention(q, [context]), "b g n h d -> b g n (h d)"))


class DecoderBlock(nnx.Module):
    """Modulated self attention, cross attention to the prompt, modulated MLP."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.modulation = nnx.Param(jax.random.normal(rngs.params(), (6, width)) / width**0.5)
        self.sa = SelfAttention(config, rngs=rngs)
        self.ca_norm = LayerNorm(width, eps=EPS)
        self.ca = CrossAttention(config, rngs=rngs)
        self.mlp = MLP(width, config.inner, width, "gelu_pytorch_tanh", rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B G n C"],
        shared: Float[Array, "B 6 C"],
        angles: Float[np.ndarray | Array, "n half"],
        mask: Bool[Array, "#B #G n n"] | None,
        past: list[Block],
        context: Block,
    ) -> tuple[Float[Array, "B G n C"], tuple[Array, Array]]:
        """The new residual stream, and the keys and values of its tokens."""
        parts = (self.modulation[...] + shared).astype(x.dtype)[:, None, None]
        gain1, gain2, scale1, scale2, shift1, shift2 = jnp.unstack(parts, axis=-2)
        q, k, v = self.sa.project(standardize(x, EPS) * (1 + scale1) + shift1, angles)
        mixed = attention(q, [*past, Block(k, v, mask)])
        x = x + gain1 * self.sa.proj(rearrange(mixed, "b g n h d -> b g n (h d)"))
        x = x + self.ca(self.ca_norm(x), context)
        return x + gain2 * self.mlp(standardize(x, EPS) * (1 + scale2) + shift2), (k, v)


class ScaleDecoder(nnx.Module):
    """Token embedding, condition path, blocks and the head of two logits per bit."""

    def __init__(self, config: DecoderConfig, bits: int, *, rngs: nnx.Rngs):
        width = config.width
        normal = lambda *shape: jax.random.normal(rngs.params(), shape) / width**0.5
        self.config = config
        self.word_embed = Linear(bits, width, rngs=rngs)
        self.level = Embedding(config.levels, width, rngs=rngs)
        self.start = nnx.Param(normal(width))
        self.drawn = nnx.Param(normal(width))  # the condition of every prompt
        self.undrawn = nnx.Param(normal(config.text_rows, width))  # rows of the absent prompt
        self.text_norm = RMSNorm(width, eps=EPS)
        self.pool_kv = Linear(width, 2 * width, bias=False, rngs=rngs)
        self.pool_v_bias = nnx.Param(jnp.zeros(width))
        self.pool_proj = Linear(width, width, rngs=rngs)
        self.shared_modulation = Linear(width, 6 * width, rngs=rngs)
        self.blocks = stacked(lambda rngs: DecoderBlock(config, rngs=rngs), config.layers, rngs)
        self.head_modulation = Linear(width, 2 * width, rngs=rngs)
        self.head = Linear(width, 2 * bits, rngs=rngs)

    def modulation(self, absent: Bool[Array, " B"]) -> Modulation:
        """The condition path, for prompts and for absent prompts."""
        dtype = self.config.dtype
        drawn, undrawn = self.drawn[...].astype(dtype), self.undrawn[0].astype(dtype)
        x = self.text_norm(jnp.where(absent[:, None], undrawn, drawn))
        # Pooling over a single key: the values alone, whatever the query.
        values = jnp.split(self.pool_kv(x), 2, axis=-1)[1]
        vector = self.pool_proj(values + self.pool_v_bias[...].astype(dtype))
        active, six = jax.nn.silu(vector), "b (six c) -> b six c"
        return Modulation(
            vector=vector,
            first=vector + self.start[...].astype(dtype),
            blocks=rearrange(self.shared_modulation(active), six, six=6),
            head=rearrange(self.head_modulation(active), "b (two c) -> b two c", two=2),
        )

    def embed(self, inputs: Float[Array, "*batch n bits"]) -> Float[Array, "*batch n C"]:
        """Sums of coarser scales as tokens."""
        return self.word_embed(inputs.astype(self.config.dtype))

    def absent_rows(self, rows: int) -> Float[Array, "rows C"]:
        """The context of an absent prompt; rows beyond the table are zero."""
        table = self.undrawn[:rows].astype(self.config.dtype)
        return jnp.pad(table, ((0, rows - table.shape[0]), (0, 0)))

    def context(self, rows: Float[Array, "B T C"]) -> KeysValues:
        """Keys and values of a prompt's rows for every block: constant over all scales."""
        apply = lambda block, rows, _: (rows, block.ca.project(rows))
        return scan_layers(apply, self.blocks, rows)[1]

    def run(
        self,
        x: Float[Array, "B G n C"],
        modulation: Modulation,
        angles: Float[np.ndarray | Array, "n half"],
        context: Block,
        mask: Bool[Array, "#B #G n n"] | None = None,
        past: KeysValues | None = None,
    ) -> tuple[Float[Array, "B G n C"], KeysValues]:
        """All blocks.

        Args:
          x: tokens with their level embedding.
          modulation: shifts and scales that the prompts ask for.
          angles: rotary angles of the tokens.
          context: keys and values of the prompts with a leading layer axis.
          mask: which of the tokens each token sees; None is all.
          past: keys and values of the coarser scales.

        Returns:
          The residual stream after the last block, keys and values of the new tokens.
        """

        def apply(block: DecoderBlock, x, layered):
            (keys, values), past = layered
            earlier = [] if past is None else [Block(*past)]
            cross = Block(keys, values, context.mask)
            return block(x, modulation.blocks, angles, mask, earlier, cross)

        layered = ((context.keys, context.values), past)
        return scan_layers(apply, self.blocks, x, layered, remat=self.config.remat)

    def logits(
        self, x: Float[Array, "B G n C"], modulation: Modulation
    ) -> Float[Array, "B G n bits 2"]:
        """float32 logits of 0 and 1 for every bit."""
        scale, shift = jnp.unstack(modulation.head[:, None, None], axis=-2)
        y = self.head(standardize(x, EPS) * (1 + scale) + shift)
        return rearrange(y.astype(jnp.float32), "... (bits two) -> ... bits two", two=2)


def _directions(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """x / max(norm, 1e-12) in float32."""
    x = x.astype(jnp.float32)
    # Below that norm the square underflows; the gradient at zero stays finite.
    norm = jnp.sqrt(at_least(jnp.sum(x * x, -1, keepdims=True), 1e-24))
    return x / norm
