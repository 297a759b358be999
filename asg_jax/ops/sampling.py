"""Sampling distributions over a vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32


def gumbel(key: Key[Array, ""], size: int) -> Float[Array, "{size}"]:
    """Standard Gumbel noise: added to logits, its argmax is a draw from their softmax.

    The largest of 150,000 numbers decides, where the 23 random bits of `jax.random.gumbel` are
    coarse; here all 32 bits count, and the spacing is finest where the noise is large.
    """
    uniform = (jax.random.bits(key, (size,)).astype(jnp.float32) + 0.5) * 2.0**-32
    return -jnp.log(-jnp.log1p(-jnp.minimum(uniform, 1 - 2.0**-24)))  # 1 would give -inf


def truncate(
    logits: Float[Array, "*batch V"],
    temperature: Float[Array, "*batch"],
    top_k: Int[Array, "*batch"] | None = None,
    top_p: Float[Array, "*batch"] | None = None,
) -> Float[Array, "*batch V"]:
    """Log-probs after temperature, top-k and nucleus; -inf where a token is dropped.

    Top-k acts for 0 < k < V. The nucleus (0 < p < 1) drops every token whose cumulative
    probability exceeds p, so also the one that crosses it, but never the first. (BAGEL as used by
    Ask, Solve, Generate, arXiv 2606.27376.) Tokens of equal logits stay or go together.

    The least logit that stays is found by bisection, 32 sums over the vocabulary each for k and
    for p, which is many times cheaper than sorting it.
    """
    scaled = logits.astype(jnp.float32) / jnp.maximum(temperature, 1e-5)[..., None]
    weights = jnp.exp(scaled - scaled.max(-1, keepdims=True))
    order = _order(scaled)
    kept, total = jnp.ones(scaled.shape, bool), weights.sum(-1)
    if top_k is not None:
        kept, total = _top_k(weights, order, top_k)
    if top_p is not None:
        kept &= _nucleus(weights, order, top_p, total)
    return jax.nn.log_softmax(jnp.where(kept, scaled, -jnp.inf), axis=-1)


def _top_k(
    weights: Float[Array, "*batch V"], order: UInt32[Array, "*batch V"], k: Int[Array, "*batch"]
) -> tuple[Bool[Array, "*batch V"], Float[Array, "*batch"]]:
    """The tokens that top-k keeps, and the weight of k of them (more may tie for the last)."""
    size = order.shape[-1]
    k = jnp.where((0 < k) & (k < size), k, size)
    last = _largest(lambda least: (order >= least[..., None]).sum(-1) >= k, k.shape)[..., None]
    above = order > last
    tied = jnp.where(order == last, weights, 0).max(-1)
    total = jnp.where(above, weights, 0).sum(-1) + (k - above.sum(-1)) * tied
    return order >= last, total


def _nucleus(
    weights: Float[Array, "*batch V"],
    order: UInt32[Array, "*batch V"],
    p: Float[Array, "*batch"],
    total: Float[Array, "*batch"],
) -> Bool[Array, "*batch V"]:
    """The tokens that the nucleus keeps of tokens that weigh `total` together."""
    mass = lambda kept: jnp.where(kept, weights, 0).sum(-1)
    allowed = p * total
    # The token whose weight, with all before it, first exceeds what is allowed.
    cross = _largest(lambda least: mass(order >= least[..., None]) > allowed, p.shape)[..., None]
    above = order > cross
    tied = order == cross
    fits = mass(above) + jnp.where(tied, weights, 0).max(-1) <= allowed  # the first that ties
    first = order == order.max(-1, keepdims=True)
    inactive = (p <= 0) | (p >= 1)
    return above | first | (tied & fits[..., None]) | inactive[..., None]


def _order(x: Float[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """Integers in the order of float32 numbers."""
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.uint32)  # -0 equals 0
    sign = jnp.uint32(1 << 31)
    return jnp.where(bits & sign, ~bits, bits | sign)


def _largest(
    holds: Callable[[UInt32[Array, "*batch"]], Bool[Array, "*batch"]], shape: tuple[int, ...]
) -> UInt32[Array, "*batch"]:
    """The largest integer for which a predicate holds that holds for all smaller ones."""

    def refine(n: Int[Array, ""], found: Array) -> Array:
        candidate = found | (jnp.uint32(1 << 31) >> n.astype(jnp.uint32))
        return jnp.where(holds(candidate), candidate, found)

    return jax.lax.fori_loop(0, 32, refine, jnp.zeros(shape, jnp.uint32))
