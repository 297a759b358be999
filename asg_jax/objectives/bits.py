"""Updates of a next-scale generator from the rewards of images that it drew.

One token is one bit: an image is the L C bits that were sampled, and every mean over tokens runs
over all of them. B prompts, G images each, L image tokens of C bits. (Ask, Solve, Generate, arXiv
2606.27376, generation step: token policy gradient over the image-token trace.)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.objectives.policy_gradient import Means, grpo_loss, reinforce_loss
from asg_jax.ops.bits import bit_kl, bit_log_probs
from asg_jax.ops.masked import Scalar


def bits_grpo_loss(
    logits: Float[Array, "B G L C 2"],
    frozen: Float[Array, "B G L C 2"],
    bits: Int[Array, "B G L C"],
    advantages: Float[Array, "B G"],
    mask: Bool[Array, "B G"],
    beta: Scalar,
    clip: Scalar = 0.2,
    weights: Float[Array, "B G L C"] | None = None,
) -> Means:
    """GRPO whose tokens are bits, with the exact KL over their two values.

    Args:
      logits: the policy's, teacher-forced on the sampled bits.
      frozen: the same of the frozen model.
      bits: what was sampled, without guidance and at temperature 1.
      advantages: those within each group.
      mask: which images exist.
      beta: coefficient of the KL to the frozen model.
      clip: how far the ratio of a bit to the policy's own stopped value may go from 1.
      weights: how much the gain of a bit counts; all alike if None.
    """
    new, kl = _tokens(bit_log_probs(logits, bits)), _drift(logits, frozen)
    counts = jnp.broadcast_to(mask[..., None], new.shape)
    weights = None if weights is None else _tokens(weights)
    stopped = jax.lax.stop_gradient(new)
    return grpo_loss(advantages, new, stopped, kl, counts, beta, clip, weights)


def bits_likelihood_loss(
    logits: Float[Array, "B G L C 2"],
    frozen: Float[Array, "B G L C 2"],
    bits: Int[Array, "B G L C"],
    mask: Bool[Array, "B G"],
    beta: Scalar,
) -> Means:
    """Cross-entropy of the images that count, with the same penalty; arguments as above."""
    log_probs, kl = _tokens(bit_log_probs(logits, bits)), _drift(logits, frozen)
    counts = jnp.broadcast_to(mask[..., None], log_probs.shape)
    return reinforce_loss(jnp.ones(mask.shape), log_probs, kl, counts, beta)


def _drift(logits: Array, frozen: Array) -> Float[Array, "B G T"]:
    return _tokens(bit_kl(logits, jax.lax.stop_gradient(frozen)))


def _tokens(x: Float[Array, "B G L C"]) -> Float[Array, "B G T"]:
    return x.reshape(*x.shape[:2], -1)
