"""The Qwen2-type decoder that all three backbones build on.

Rows travel in streams, one per expert: with one expert a plain decoder, with two a mixture of
transformers, in which text and image latents have their own weights and meet in the softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Prompt
from asg_jax.models.layers.attention import Block, Causal, attention
from asg_jax.models.layers.linear import Embedding, Linear
from asg_jax.models.layers.mlp import GatedMLP
from asg_jax.models.layers.norms import RMSNorm
from asg_jax.models.layers.rotary import rotary_angles, rotate_halves, sectioned_angles
from asg_jax.models.layers.stack import scan_layers, stacked

Streams = tuple[Float[Array, "B G _ D"], ...]  # one per expert; absent or empty is skipped


@dataclass(frozen=True)
class LanguageConfig:
    """Sizes of the decoder, named as in the model's papers; see Hugging Face `Qwen2Config`."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    theta: float
    eps: float
    qk_norm: bool = False
    experts: int = 1
    sections: tuple[int, ...] = ()  # rotary frequencies of each axis of the index; all of one axis
    dtype: str = "float32"  # of activations and caches
    remat: str = "none"  # a policy of layers/stack.py


QWEN2_7B = LanguageConfig(
    vocabulary=152064,
    width=3584,
    layers=28,
    heads=28,
    kv_heads=4,
    head_width=128,
    inner=18944,
    theta=1e6,
    eps=1e-6,
)


class Expert(nnx.Module):
    """The weights of one decoder layer for one kind of rows."""

    def __init__(self, config: LanguageConfig, *, rngs: nnx.Rngs):
        width, head = config.width, config.head_width
        inner, kv_inner = config.heads * head, config.kv_heads * head
        self.input_norm = RMSNorm(width, eps=config.eps)
        self.q_proj = Linear(width, inner, rngs=rngs)
        self.k_proj = Linear(width, kv_inner, rngs=rngs)
        self.v_proj = Linear(width, kv_inner, rngs=rngs)
        self.q_norm = RMSNorm(head, eps=config.eps) if config.qk_norm else None
        self.k_norm = RMSNorm(head, eps=config.eps) if config.qk_norm else None
        self.o_proj = Linear(inner, width, bias=False, rngs=rngs)
        self.post_norm = RMSNorm(width, eps=config.eps)
        self.mlp = GatedMLP(width, config.inner, rngs=rngs)
        self.head_width = head

    def qkv(
        self, x: Float[Array, "B G T D"], angles: Float[Array, "B G T half"]
    ) -> tuple[
        Float[Array, "B G T heads width"],
        Float[Array, "B G T kv_heads width"],
        Float[Array, "B G T kv_heads width"],
    ]:
        """Queries, keys (both normed, then rotated) and values."""
        h = self.input_norm(x)
        q, k, v = (
            rearrange(projection(h), "b g t (h d) -> b g t h d", d=self.head_width)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return rotate_halves(q, angles), rotate_halves(k, angles), v

    def finish(
        self, x: Float[Array, "B G T D"], mixed: Float[Array, "B G T heads width"]
    ) -> Float[Array, "B G T D"]:
        """Adds the attention output and the MLP to the residual stream."""
        x = x + self.o_proj(rearrange(mixed, "b g t h d -> b g t (h d)"))
        return x + self.mlp(self.post_norm(x))


class DecoderLayer(nnx.Module):
    """One layer: every stream with its own expert, one softmax for all rows."""

    def __init__(self, config: LanguageConfig, *, rngs: nnx.Rngs):
        self.und = Expert(config, rngs=rngs)
        self.gen = Expert(config, rngs=rngs) if config.experts == 2 else None

    def __call__(
        self,
        streams: Streams,
        angles: Float[Array, "B G T half"],
        mask: Bool[Array, "#B #G T T"] | Causal | None,
        past: list[Block],
    ) -> tuple[Streams, tuple[Array, Array]]:
        experts = [e for e in (self.und, self.gen) if e is not None][: len(streams)]
        split = lambda x: _split(x, [s.shape[2] for s in streams])
        parts = [e.qkv(x, a) for e, x, a in zip(experts, streams, split(angles), strict=True)]
        q, k, v = (jnp.concatenate(part, axis=2) for part in zip(*parts, strict=True))
        mixed = split(attention(q, [*past, Block(k, v, mask)]))
        out = tuple(e.finish(x, m) for e, x, m in zip(experts, streams, mixed, strict=True))
        return out, (k, v)


class LanguageModel(nnx.Module):
    """Embedding, stacked decoder layers, one final norm per expert, unembedding."""

    def __init__(self, config: LanguageConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embed_tokens = Embedding(config.vocabulary, config.width, rngs=rngs)
        self.layers = stacked(lambda rngs: DecoderLayer(config, rngs=rngs), config.layers, rngs)
        self.und_norm = RMSNorm(config.width, eps=config.eps)
        self.gen_norm = RMSNorm(config.width, eps=config.eps) if config.experts == 2 else None
        self.lm_head = Embedding(config.vocabulary, config.width, rngs=rngs)

    def tokens(self, ids: Int[Array, "*batch"]) -> Float[Array, "*batch D"]:
        """Embedding rows in the compute dtype."""
        return self.embed_tokens(ids).astype(self.config.dtype)

    def rows(self, prompt: Prompt) -> Streams:
        """Input rows of a prompt, split into streams (with G = 1)."""
        x = self.tokens(prompt.ids)
        if prompt.features is not None:
            index = jnp.maximum(prompt.slot, 0)[..., None]
            features = jnp.take_along_axis(prompt.features.astype(x.dtype), index, axis=1)
            x = jnp.where((prompt.slot >= 0)[..., None], features, x)
        text = x.shape[1] - prompt.latents
        return (x[:, None, :text], x[:, None, text:]) if prompt.latents else (x[:, None],)

    def run(
        self,
        streams: Streams,
        positions: Int[Array, "B G T A"],
        mask: Bool[Array, "#B #G T T"] | Causal | None,
        past: tuple[Block, ...] = (),
    ) -> tuple[Streams, tuple[Float[Array, "layers B G T heads width"], ...]]:
        """The residual streams after the last layer, and the keys and values of the new rows.

        Args:
          streams: new rows; T counts them all, in the order of the streams.
          positions: rotary indexes of the new rows.
          mask: which new rows each new row sees; None is all, `CAUSAL` those up to its own.
          past: earlier rows with a leading layer axis; new rows see all that its mask shows.
        """
        config = self.config
        width, theta = config.head_width, config.theta
        if config.sections:
            angles = sectioned_angles(positions, width, theta, config.sections)
        else:
            angles = rotary_angles(positions[..., 0], width, theta)

        def apply(layer: DecoderLayer, streams, past):
            blocks = [Block(k, v, block.mask) for (k, v), block in zip(past, earlier, strict=True)]
            return layer(streams, angles, mask, blocks)

        earlier = past
        layered = [(block.keys, block.values) for block in past]
        return scan_layers(apply, self.layers, streams, layered, remat=config.remat)

    def norm(self, streams: Streams) -> Streams:
        """The final norm of each expert."""
        norms = [n for n in (self.und_norm, self.gen_norm) if n is not None]
        return tuple(norm(x) for norm, x in zip(norms, streams, strict=False))

    def __call__(self, streams, positions, mask, past=()):
        """As `run`, with final-normed rows."""
        streams, kv = self.run(streams, positions, mask, past)
        return self.norm(streams), kv


def _split(x: Array, sizes: list[int]) -> list[Array]:
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    return [
        jax.lax.slice_in_dim(x, start, start + size, axis=2)
        for start, size in zip(starts, sizes, strict=True)
    ]
