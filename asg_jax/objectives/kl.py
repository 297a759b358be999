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
    least: float = 1e-3,
    reach: float = 50.0,
) -> Float[Array, ""]:
    """The KL coefficient after a step: larger where the mean KL lies above the target.

    It stays within [least, 100], and as it was if the KL is not finite or nothing is kept.

    Args:
      beta: coefficient before the step.
      kl: distance from the frozen model, one number per sample.
      kept: samples that count.
      target: mean KL at which the coefficient stays.
      rate: beta is multiplied by exp(rate (kl - target) / target).
      least: lower bound; 1e-8 in EvoLMM (arXiv 2511.16672).
      reach: bound on the relative error, above 0; EvoLMM has none.
    """
    kl = masked_mean(kl, kept, empty=jnp.nan)
    error = jnp.clip((kl - target) / target, -reach, reach)
    return jnp.where(jnp.isfinite(kl), jnp.clip(beta * jnp.exp(rate * error), least, 1e2), beta)


def k3(
    log_probs: Float[Array, "*batch T"], reference_log_probs: Float[Array, "*batch T"]
) -> Float[Array, "*batch T"]:
    """Estimates KL(policy || reference) on sampled tokens, never below 0.

    Both log-probs are those of the distribution that was sampled from. (Schulman's third estimator,
    as in GRPO.)
    """
    log_ratio = at_most(reference_log_probs - log_probs, LOG_BOUND)
    return jnp.expm1(log_ratio) - log_ratio
