"""Drift from the frozen model: estimates, and the coefficient that adapts to it."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.bounds import at_most
from asg_jax.ops.masked import Scalar, masked_mean

LOG_BOUND = 20.0  # a larger log-ratio would overflow exp, and then the gradients


def kl_coefficient_update(
    beta: Scalar,
    kl: Float[Array, "*batch"],
    kept: Bool[Array, "*#batch"],
    target: Scalar = 0.02,
    rate: Scalar = 0.10,
) -> Float[Array, ""]:
    """The KL coefficient after a step: larger where the mean KL lies above the target.

    It stays within [0.001, 100], and as it was if the KL is not finite or nothing is kept.
    """
    kl = masked_mean(kl, kept, empty=jnp.nan)
    error = jnp.clip((kl - target) / target, -50, 50)
    return jnp.where(jnp.isfinite(kl), jnp.clip(beta * jnp.exp(rate * error), 1e-3, 1e2), beta)


def k3(
    log_probs: Float[Array, "*batch T"], reference_log_probs: Float[Array, "*batch T"]
) -> Float[Array, "*batch T"]:
    """Estimates KL(policy || reference) on sampled tokens, never below 0.

    Both log-probs are those of the distribution that was sampled from. (Schulman's third estimator,
    as in GRPO.)
    """
    log_ratio = at_most(reference_log_probs - log_probs, LOG_BOUND)
    return jnp.expm1(log_ratio) - log_ratio
