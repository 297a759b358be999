"""Advantages: rewards compared with those of other samples, or with a running baseline.

(Ask, Solve, Generate, arXiv 2606.27376; group-relative advantages: GRPO, arXiv 2402.03300.)
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.masked import Scalar, masked_mean


def group_advantages(
    rewards: Float[Array, "*batch G"], mask: Bool[Array, "*#batch #G"]
) -> Float[Array, "*batch G"]:
    """Rewards of a group, centred and divided by their population standard deviation.

    Args:
      rewards: those of the G samples of one prompt.
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
      rewards: those of the G samples of each prompt.
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
      advantages: those of all samples.
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
