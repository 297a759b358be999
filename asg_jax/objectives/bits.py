"""Updates of a next-scale generator from the rewards of images that it drew.

One token is one bit: an image is the L C bits that were sampled, and every mean over tokens runs
over all of them. B prompts, G images each, L image tokens of C bits. (Ask, Solve, Generate, arXiv
2606.27376, generation step: token policy gradient over the image-token trace.)
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.objectives.policy import clipped_gain, grpo_loss, reinforce_loss
from asg_jax.ops.bits import bit_kl, bit_log_probs
from asg_jax.ops.bounds import at_least, at_most
from asg_jax.signals.groups import Scalar, masked_mean

LOG_RATIO_BOUND = math.log(10)  # of the surrogate
IMAGE_WEIGHT = 3.0  # of the bits beside the text in VARGPT's training loss


def bits_grpo_loss(
    logits: Float[Array, "B G L C 2"],
    frozen: Float[Array, "B G L C 2"],
    bits: Int[Array, "B G L C"],
    old_log_probs: Float[Array, "B G L C"],
    advantages: Float[Array, "B G"],
    mask: Bool[Array, "B G"],
    beta: Scalar,
    clip: Scalar = 0.2,
) -> Float[Array, ""]:
    """GRPO whose tokens are bits, with the exact KL over their two values.

    Args:
      logits: of the policy, teacher-forced on the sampled bits.
      frozen: the same of the frozen model.
      bits: that were sampled, without guidance and at temperature 1.
      old_log_probs: of them, recorded while sampling.
      advantages: within each group.
      mask: which images exist; without any, the loss is 0.
      beta: coefficient of the KL to the frozen model.
      clip: of the ratio of every bit.
    """
    new, kl = _tokens(bit_log_probs(logits, bits)), _drift(logits, frozen)
    counts = jnp.broadcast_to(mask[..., None], new.shape)
    return grpo_loss(advantages, new, _tokens(old_log_probs), kl, counts, beta, clip)


def bits_likelihood_loss(
    logits: Float[Array, "B G L C 2"],
    frozen: Float[Array, "B G L C 2"],
    bits: Int[Array, "B G L C"],
    mask: Bool[Array, "B G"],
    beta: Scalar,
) -> Float[Array, ""]:
    """Cross-entropy of the images that count, with the same penalty; arguments as above."""
    log_probs, kl = _tokens(bit_log_probs(logits, bits)), _drift(logits, frozen)
    counts = jnp.broadcast_to(mask[..., None], log_probs.shape)
    return reinforce_loss(jnp.ones(mask.shape), log_probs, kl, counts, beta)


def surrogate_loss(
    log_probs: Float[Array, "B G"],
    reference: Float[Array, "B G"],
    advantages: Float[Array, "B G"],
    mask: Bool[Array, "B G"],
    beta: Scalar,
    clip: Scalar = 0.2,
) -> Float[Array, ""]:
    """What the official code of ASG minimises for VARGPT-v1.1, kept for comparison.

    One ratio per image, against the frozen model and not the policy that drew, bounded by 10; the
    penalty is the positive part of the difference.

    Args:
      log_probs: what stands for the log-probs of images under the policy (`surrogate_log_probs`).
      reference: the same under the frozen model.
      advantages: within each group; here they are divided by the standard deviation of a sample.
      mask: which images exist; without any, the loss is 0.
      beta: coefficient of the penalty.
      clip: of the ratio.
    """
    count = jnp.maximum(mask.sum(-1, keepdims=True), 1)
    advantages = advantages * jnp.sqrt((count - 1) / count)
    difference = log_probs - jax.lax.stop_gradient(reference)
    ratio = jnp.exp(at_most(difference, LOG_RATIO_BOUND))
    gain = clipped_gain(advantages, ratio, clip)
    return masked_mean(beta * at_least(difference, 0.0) - gain, mask)


def surrogate_log_probs(
    text: Float[Array, " B"], bits: Float[Array, "B G L C"]
) -> Float[Array, "B G"]:
    """The official code's stand-in for the log-prob of an image: its training loss, negated.

    Args:
      text: mean log-prob of the prompt's own tokens.
      bits: log-probs of the bits that the encoder finds in the decoded picture.
    """
    return text[:, None] + IMAGE_WEIGHT * bits.mean((-2, -1))


def _drift(logits: Array, frozen: Array) -> Float[Array, "B G T"]:
    return _tokens(bit_kl(logits, jax.lax.stop_gradient(frozen)))


def _tokens(x: Float[Array, "B G L C"]) -> Float[Array, "B G T"]:
    return x.reshape(*x.shape[:2], -1)
