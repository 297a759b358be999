"""Distributions over single bits, given as the logits of 0 and 1; everything in nats."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def bit_log_probs(
    logits: Float[Array, "*batch 2"], bits: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Log-probabilities of bits, each 0 or 1."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), bits[..., None], axis=-1)[..., 0]


def bit_entropy(logits: Float[Array, "*batch 2"]) -> Float[Array, "*batch"]:
    """Entropy of every bit, at most ln 2."""
    log_probs = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_probs) * log_probs).sum(-1)


def bit_kl(
    logits: Float[Array, "*batch 2"], reference: Float[Array, "*batch 2"]
) -> Float[Array, "*batch"]:
    """KL(policy || reference) of every bit, exact: the sum over its two values."""
    log_probs = jax.nn.log_softmax(logits)
    return (jnp.exp(log_probs) * (log_probs - jax.nn.log_softmax(reference))).sum(-1)
