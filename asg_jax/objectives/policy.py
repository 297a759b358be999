"""Policy gradients of sampled tokens, and the running numbers that they need.

GRPO for the Proposer and for token-wise image generation, REINFORCE for the Solver, both with a KL
penalty to the frozen model. (Ask, Solve, Generate, arXiv 2606.27376; GRPO: arXiv 2402.03300.)

In every loss T counts tokens (or bits, or sampling steps), the token mean of each sequence comes
first, then the mean over the sequences that have a token; without any, the loss is 0.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.bounds import at_least, at_most
from asg_jax.signals.groups import Scalar, masked_mean, sequence_means

LOG_BOUND = 20.0  # a larger log-ratio would overflow exp, and then the gradients


def group_advantages(
    rewards: Float[Array, "*batch G"], mask: Bool[Array, "*#batch #G"]
) -> Float[Array, "*batch G"]:
    """Rewards of a group, centred and divided by their population standard deviation.

    Args:
      rewards: of the G samples of one prompt.
      mask: which samples exist; the others get 0, and so does a group of equal rewards.
    """
    centred = _centred(rewards, mask)
    return _divided(centred, masked_mean(centred**2, mask, axis=-1)[..., None], mask)


def batch_advantages(
    rewards: Float[Array, "B G"], mask: Bool[Array, "B #G"]
) -> Float[Array, "B G"]:
    """Rewards centred in their groups and divided by their deviation in the whole batch.

    A group whose samples are equally good, or whose judge cannot tell them apart, counts for
    little; divided by its own deviation, its noise would count as much as any other group's signal.
    (The normalising factor of DiffusionNFT, arXiv 2509.16117, as a global deviation.)

    Args:
      rewards: of the G samples of each prompt.
      mask: which samples exist; the others get 0, and so does a batch of equal rewards.
    """
    centred = _centred(rewards, mask)
    return _divided(centred, masked_mean(centred**2, mask), mask)


def centred_apart(
    advantages: Float[Array, "*batch"], *classes: Bool[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Advantages less their mean in the class that they belong to, if any.

    On average no class is made likelier or rarer then. (The aim of distribution alignment in
    ReMixMatch, arXiv 1911.09785, reached through the baseline.)

    Args:
      advantages: of all samples.
      classes: which samples belong to each; no sample to two.
    """
    means = [jnp.where(members, masked_mean(advantages, members), 0) for members in classes]
    return advantages - sum(means)


def _centred(rewards: Array, mask: Array) -> Array:
    return rewards - masked_mean(rewards, mask, axis=-1)[..., None]


def _divided(centred: Array, variance: Array, mask: Array) -> Array:
    std = jnp.sqrt(variance)
    return jnp.where(mask & (std >= 1e-6), centred / (std + 1e-6), 0)


def ema_baseline(
    baseline: Scalar,
    rewards: Float[Array, "*batch"],
    kept: Bool[Array, "*#batch"],
    momentum: Scalar = 0.6,
) -> Float[Array, ""]:
    """The baseline after a step, as it was if nothing is kept; the step uses the one before."""
    mean = masked_mean(rewards, kept)
    return jnp.where(kept.any(), momentum * baseline + (1 - momentum) * mean, baseline)


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


def clipped_gain(
    advantages: Float[Array, "*#batch"], ratio: Float[Array, "*batch"], clip: Scalar
) -> Float[Array, "*batch"]:
    """min(A r, A clip(r, 1 - c, 1 + c)): a ratio gains nothing beyond the bound on A's side."""
    bounded = jnp.where(advantages > 0, at_most(ratio, 1 + clip), at_least(ratio, 1 - clip))
    return advantages * bounded


def grpo_loss(
    advantages: Float[Array, "*batch"],
    log_probs: Float[Array, "*batch T"],
    old_log_probs: Float[Array, "*batch T"],
    kl: Float[Array, "*batch T"],
    mask: Bool[Array, "*batch T"],
    beta: Scalar,
    clip: Scalar = 0.2,
) -> Float[Array, ""]:
    """Clipped importance-weighted policy gradient with a KL penalty.

    Args:
      advantages: of the sequences.
      log_probs: of the sampled tokens under the policy that is trained.
      old_log_probs: the same, recorded while sampling.
      kl: per token to the frozen model, `k3` or exact.
      mask: tokens that count, the drawn stop token included; none where a sequence is left out.
      beta: KL coefficient.
      clip: the ratio of the two policies acts within [1 - clip, 1 + clip].
    """
    log_ratio = jnp.where(mask, log_probs - old_log_probs, 0)
    ratio = jnp.exp(at_most(log_ratio, LOG_BOUND))
    gain = clipped_gain(advantages[..., None], ratio, clip)
    return masked_mean(*sequence_means(beta * kl - gain, mask))


def reinforce_loss(
    advantages: Float[Array, "*batch"],
    log_probs: Float[Array, "*batch T"],
    kl: Float[Array, "*batch T"],
    mask: Bool[Array, "*batch T"],
    beta: Scalar,
) -> Float[Array, ""]:
    """Plain policy gradient with a KL penalty; arguments as in `grpo_loss`, the KL exact."""
    return masked_mean(*sequence_means(beta * kl - advantages[..., None] * log_probs, mask))
