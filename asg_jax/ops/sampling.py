"""Sampling distributions over a vocabulary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def truncate(
    logits: Float[Array, "*batch V"],
    temperature: Float[Array, "*batch"],
    top_k: Int[Array, "*batch"],
    top_p: Float[Array, "*batch"],
) -> Float[Array, "*batch V"]:
    """Log-probs after temperature, top-k and nucleus; -inf where a token is dropped.

    Top-k acts for 0 < k < V. The nucleus (0 < p < 1) drops every token whose cumulative
    probability exceeds p, so also the one that crosses it, but never the first. (BAGEL as used by
    Ask, Solve, Generate, arXiv 2606.27376.)
    """
    scaled = logits.astype(jnp.float32) / jnp.maximum(temperature, 1e-5)[..., None]
    ordered = -jnp.sort(-scaled, axis=-1)
    rank = jnp.arange(ordered.shape[-1])
    k, p = top_k[..., None], top_p[..., None]
    kept = (rank < k) | (k <= 0)
    cumulative = jnp.cumsum(jax.nn.softmax(jnp.where(kept, ordered, -jnp.inf), axis=-1), axis=-1)
    kept &= (cumulative <= p) | (rank == 0) | (p <= 0) | (p >= 1)
    least = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
    return jax.nn.log_softmax(jnp.where(scaled >= least, scaled, -jnp.inf), axis=-1)
