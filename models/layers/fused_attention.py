"""Attention through fused kernels: each block of keys on its own, joined by log-sum-exps.

A block's softmax is over its own keys; weights exp(l_j - l) of the blocks' log-sum-exps l_j, and l
of them together, make one softmax of all. Backwards, every kernel gets the joint output and l in
place of its own: the probabilities that it recomputes are then the joint ones, and its gradients
exact, with nothing to be passed through the l_j. (FlashAttention-2, arXiv 2307.08691, section 3.1.)
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from asg_jax.models.layers import cudnn_attention
from asg_jax.models.layers.stack import kept

SMALL = 128  # queries or keys that are too few to fill a tile of a fused kernel
UNSEEN = -1e9  # log-sum-exp below that of any key that a query sees

Pairs = list[tuple[Array, Array]]  # keys and values of every block, as in `attention.Block`


class Rows(NamedTuple):
    """Attention of plain sequences: N of them, R queries and S keys each; `mask` (N, 1 or R, S).

    If `causal`, R is S, there is no mask, and a query sees the keys up to its own.
    """

    queries: Float[Array, "N R heads width"]
    keys: Float[Array, "N S kv_heads width"]
    values: Float[Array, "N S kv_heads width"]
    mask: Bool[Array, "N #R S"] | None
    causal: bool


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fused_attention(
    kernel: str,
    causal: tuple[bool, ...],
    queries: Float[Array, "B G T heads width"],
    pairs: Pairs,
    masks: list[Bool[Array, "#B #G #T _"] | None],
) -> Float[Array, "B G T heads width"]:
    """`attention` through a fused kernel; blocks too small for it go through XLA.

    Args:
      kernel: "cudnn" or "splash".
      causal: which blocks are the queries' own rows, seen up to a query's own; they have no mask.
      queries: 16 bits for cuDNN.
      pairs: keys and values of every block.
      masks: what each block may see.
    """
    return _forward(kernel, causal, queries, pairs, masks)[0]


def _forward(kernel: str, causal: tuple[bool, ...], queries: Array, pairs: Pairs, masks: list[Any]):
    parts = []
    for pair, mask, own in zip(pairs, masks, causal, strict=True):
        rows = _rows(queries, *pair, mask, own)
        out, total = _kernel(kernel, rows).forward(rows)
        parts.append((_restore(out, queries), _restore(total, queries)))
    joint, total = _join(parts)
    joint, total = kept(joint.astype(queries.dtype)), kept(total)
    return joint, (queries, pairs, masks, joint, total)


def _join(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Outputs and log-sum-exps of blocks as those of one softmax.

    A kernel's output is undefined where a query sees no key: it becomes 0.
    """
    total = jax.nn.logsumexp(jnp.stack([own for _, own in parts]), axis=0)
    total = jnp.maximum(total, UNSEEN)
    if len(parts) == 1:  # without a detour through float32
        ((out, own),) = parts
        return jnp.where(own[..., None] > UNSEEN, out, 0), total
    joint = jnp.zeros((), jnp.float32)
    for out, own in parts:
        share = jnp.exp(own - total)[..., None]
        joint += jnp.where(own[..., None] > UNSEEN, share * out.astype(jnp.float32), 0)
    return joint, total


def _backward(kernel: str, causal: tuple[bool, ...], residuals: Any, cotangent: Array):
    queries, pairs, masks, joint, total = residuals
    d_queries, d_pairs = jnp.zeros((), jnp.float32), []
    for (keys, values), mask, own in zip(pairs, masks, causal, strict=True):
        rows = _rows(queries, keys, values, mask, own)
        like = lambda x, keys=keys: _as_rows(x, keys.ndim == 5)
        d_rows, d_keys, d_values = _kernel(kernel, rows).backward(
            rows, like(joint), like(total), like(cotangent)
        )
        d_queries += _restore(d_rows, queries).astype(jnp.float32)
        d_pairs.append((d_keys.reshape(keys.shape), d_values.reshape(values.shape)))
    return d_queries.astype(queries.dtype), d_pairs, None


fused_attention.defvjp(_forward, _backward)


def _as_rows(x: Array, own: bool) -> Array:
    """(B, G, T, ...): one sequence per sample, or all samples as queries of one sequence."""
    return rearrange(x, "b g t ... -> (b g) t ..." if own else "b g t ... -> b (g t) ...")


def _restore(x: Array, like: Array) -> Array:
    return x.reshape(*like.shape[:3], *x.shape[2:])


def _rows(queries: Array, keys: Array, values: Array, mask: Array | None, causal: bool) -> Rows:
    own = keys.ndim == 5
    if mask is not None:
        batch, samples, length = queries.shape[:3]
        # A mask that no query changes stays small.
        short = mask.shape[2] == 1 and (own or mask.shape[1] == 1)
        shape = (batch, samples if own or not short else 1, 1 if short else length, mask.shape[3])
        mask = _as_rows(jnp.broadcast_to(mask, shape), own)
    join = lambda x: rearrange(x, "b g s h d -> (b g) s h d") if own else x
    return Rows(_as_rows(queries, own), join(keys), join(values), mask, causal)


def _kernel(name: str, rows: Rows) -> Any:
    """The module that attends to a block, with the functions `forward` and `backward`."""
    if min(rows.queries.shape[1], rows.keys.shape[1]) < SMALL:
        return _Plain
    if name == "cudnn":
        return cudnn_attention
    from asg_jax.models.layers import splash_attention  # `attention.load_kernels` says why here

    return splash_attention


class _Plain:
    """All scores at once, in float32."""

    @staticmethod
    def forward(rows: Rows) -> tuple[Array, Array]:
        scores, _ = _Plain._scores(rows)
        total = jax.nn.logsumexp(scores, axis=-1)
        weights = jnp.exp(scores - total[..., None]).astype(rows.values.dtype)
        out = jnp.einsum(
            "nkrts,nskd->ntkrd", weights, rows.values, preferred_element_type=jnp.float32
        )
        flat = lambda x: rearrange(x, "n t k r ... -> n t (k r) ...")
        return flat(out), flat(jnp.moveaxis(total, -1, 1))

    @staticmethod
    def backward(rows: Rows, out: Array, total: Array, cotangent: Array) -> tuple[Array, ...]:
        scores, queries = _Plain._scores(rows)
        dtype, product = queries.dtype, partial(jnp.einsum, preferred_element_type=jnp.float32)
        split = lambda x: rearrange(x, "n t (k r) ... -> n t k r ...", k=rows.keys.shape[2])
        along = lambda x: jnp.moveaxis(split(x), 1, -1)[..., None]  # a number of every query
        cotangent, out = split(cotangent), split(out)
        inner = (cotangent.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1)
        weights = jnp.exp(scores - along(total))
        d_values = product("nkrts,ntkrd->nskd", weights.astype(dtype), cotangent)
        d_scores = product("ntkrd,nskd->nkrts", cotangent, rows.values)
        d_scores = weights * (d_scores - jnp.moveaxis(inner, 1, -1)[..., None])
        d_scores = (d_scores * queries.shape[-1] ** -0.5).astype(dtype)
        d_queries = product("nkrts,nskd->ntkrd", d_scores, rows.keys)
        d_keys = product("nkrts,ntkrd->nskd", d_scores, queries)
        d_queries = rearrange(d_queries, "n t k r d -> n t (k r) d")
        return d_queries, d_keys.astype(dtype), d_values.astype(dtype)

    @staticmethod
    def _scores(rows: Rows) -> tuple[Array, Array]:
        queries = rearrange(rows.queries, "n t (k r) d -> n t k r d", k=rows.keys.shape[2])
        scores = jnp.einsum(
            "ntkrd,nskd->nkrts", queries, rows.keys, preferred_element_type=jnp.float32
        )
        scores = scores * queries.shape[-1] ** -0.5
        mask = rows.mask
        if rows.causal:
            mask = jnp.tril(jnp.ones((1, *scores.shape[-2:]), bool))
        if mask is not None:
            scores = jnp.where(mask[:, None, None], scores, 2 * UNSEEN)
        return scores, queries
