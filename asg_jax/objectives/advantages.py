"""Advantages: rewards compared with those of other samples, or with a running baseline.

(Ask, Solve, Generate, arXiv 2606.27376; group-relative advantages: GRPO, arXiv 2402.03300.)
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.masked import Scalar, masked_mean
from asg_jax.ranges import bounded


@dataclass(frozen=True)
class GroupStatistic:
    """What the centred rewards of a group are divided by.

    Attributes:
      scaled: whether they are divided by their standard deviation.
      ddof: what the number of samples is lessened by in the variance: 0 for that of the group, 1
        for the unbiased estimate.
      eps: added to the deviation.
      least: deviations up to this are rounding, and their groups teach nothing.
    """

    scaled: bool = True
    ddof: int = bounded(0, least=0, most=1)
    eps: float = bounded(1e-6, least=0)
    least: float = bounded(1e-6, least=0)


POPULATION = GroupStatistic()


def group_advantages(
    rewards: Float[Array, "*batch G"],
    mask: Bool[Array, "*#batch #G"],
    statistic: GroupStatistic = POPULATION,
) -> Float[Array, "*batch G"]:
    """Rewards of a group, centred and divided by their standard deviation.

    Args:
      rewards: those of the G samples of one prompt.
      mask: which samples exist; the others get 0, and so does a group of equal rewards.
      statistic: the deviation.
    """
    mask = jnp.broadcast_to(mask, rewards.shape)
    centred = jnp.where(mask, _centred(rewards, mask), 0)
    if not statistic.scaled:
        return centred
    count = jnp.maximum(mask.sum(-1, keepdims=True) - statistic.ddof, 1)
    std = jnp.sqrt((centred**2).sum(-1, keepdims=True) / count)
    told_apart = mask & (std > 0) & (std >= statistic.least)
    return jnp.where(told_apart, centred / (jnp.where(std > 0, std, 1) + statistic.eps), 0)


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


def running_advantages(
    baseline: Scalar, rewards: Float[Array, " N"], momentum: Scalar = 0.9
) -> tuple[Float[Array, " N"], Float[Array, ""]]:
    """Rewards less a baseline that moves after every single one.

    (EvoLMM, arXiv 2511.16672, baseline of either role.)

    Args:
      baseline: its value ahead of the first sample.
      rewards: one sample after another.
      momentum: what the baseline keeps of itself.

    Returns:
      The advantages, and the baseline after the last.
    """

    def one(baseline: Array, reward: Array) -> tuple[Array, Array]:
        return momentum * baseline + (1 - momentum) * reward, reward - baseline

    last, advantages = jax.lax.scan(one, jnp.asarray(baseline, rewards.dtype), rewards)
    return advantages, last


def ema_baseline(
    baseline: Scalar,
    rewards: Float[Array, "*batch"],
    kept: Bool[Array, "*#batch"],
    momentum: Scalar = 0.6,
) -> Float[Array, ""]:
    """The baseline after a step, as it was if nothing is kept; the step uses the one before."""
    mean = masked_mean(rewards, kept)
    return jnp.where(kept.any(), momentum * baseline + (1 - momentum) * mean, baseline)
