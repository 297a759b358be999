"""Attention with grouped heads over several blocks of keys in one softmax."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float

QUERY_BLOCK = 512  # queries per block: bounds the scores kept at a time


class Block(NamedTuple):
    """Keys and values that queries may see: one set per prompt (no G axis) or per sample.

    `mask` broadcasts to (B, G, T, S); None shows every key to every query.
    """

    keys: Float[Array, "B *G S heads width"]
    values: Float[Array, "B *G S heads width"]
    mask: Bool[Array, "#B #G #T S"] | None = None


def attention(
    queries: Float[Array, "B G T heads width"], blocks: list[Block]
) -> Float[Array, "B G T heads width"]:
    """Softmax attention over all blocks together, scale 1 / sqrt(width), float32 softmax.

    Keys shared by the G samples of a prompt are read once, never repeated. Long query sequences
    are taken block by block, and recomputed in the backward pass.
    """
    length = queries.shape[2]
    if length <= QUERY_BLOCK:
        return _attend(queries, blocks)
    padding = -length % QUERY_BLOCK
    pad = lambda x, axis: jnp.pad(x, [(0, padding * (a == axis)) for a in range(x.ndim)])
    split = lambda x: rearrange(pad(x, 2), "b g (n t) ... -> n b g t ...", t=QUERY_BLOCK)
    per_query = [block.mask is not None and block.mask.shape[2] == length for block in blocks]
    masks = [split(b.mask) if long else None for b, long in zip(blocks, per_query, strict=True)]

    def chunk(inputs):
        queries, masks = inputs
        replaced = [
            block if mask is None else block._replace(mask=mask)
            for block, mask in zip(blocks, masks, strict=True)
        ]
        return _attend(queries, replaced)

    out = jax.lax.map(jax.checkpoint(chunk), (split(queries), masks))
    return rearrange(out, "n b g t h d -> b g (n t) h d")[:, :, :length]


def _attend(queries: Array, blocks: list[Block]) -> Array:
    heads = blocks[0].keys.shape[-2]
    queries = rearrange(queries, "b g t (k r) d -> b g t k r d", k=heads)
    weights = jax.nn.softmax(jnp.concatenate([_scores(queries, b) for b in blocks], -1), axis=-1)
    weights = weights.astype(queries.dtype)
    ends = np.cumsum([block.keys.shape[-3] for block in blocks])
    out = jnp.zeros((), jnp.float32)
    for part, block in zip(jnp.split(weights, ends[:-1], axis=-1), blocks, strict=True):
        own = "bkrgts,bgskd->bgtkrd" if block.values.ndim == 5 else "bkrgts,bskd->bgtkrd"
        out = out + jnp.einsum(own, part, block.values, preferred_element_type=jnp.float32)
    return rearrange(out.astype(queries.dtype), "b g t k r d -> b g t (k r) d")


def _scores(queries: Array, block: Block) -> Float[Array, "B heads repeat G T S"]:
    own = "bgtkrd,bgskd->bkrgts" if block.keys.ndim == 5 else "bgtkrd,bskd->bkrgts"
    scores = jnp.einsum(own, queries, block.keys, preferred_element_type=jnp.float32)
    scores = scores * queries.shape[-1] ** -0.5
    if block.mask is None:
        return scores
    # Finite, so that a query that sees nothing (padding) stays finite.
    return jnp.where(block.mask[:, None, None], scores, -1e30)
