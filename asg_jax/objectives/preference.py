"""Preferences between samples of a group: DPO, SimPO, and DPO on features.

DPO: arXiv 2305.18290; SimPO: arXiv 2405.14734; KC-DPO: SILMM, arXiv 2412.05818. A sample with a
positive advantage is preferred to every one of its group with a negative advantage.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.masked import Scalar, masked_mean

Pool = Literal["mean", "max", "none"]
Distance = Literal["euclidean", "sq_euclidean", "cosine"]


def preference_loss(
    margin: Float[Array, "*batch"], smoothing: Scalar = 0.0
) -> Float[Array, "*batch"]:
    """-log sigmoid(margin), stable at any size.

    Args:
      margin: how far the chosen sample is preferred; below 0 where it is not.
      smoothing: share of the pairs that are taken to be the wrong way round.
    """
    return (1 - smoothing) * jax.nn.softplus(-margin) + smoothing * jax.nn.softplus(margin)


def dpo_scores(
    log_likelihoods: Float[Array, "*batch"], reference: Float[Array, "*batch"], beta: Scalar
) -> Float[Array, "*batch"]:
    """beta times how much likelier a sample is than under the reference.

    A margin is the difference of two scores. With minus a `feature_distance` in the place of a
    log-likelihood this is KC-DPO.
    """
    return beta * (log_likelihoods - reference)


def feature_distance(
    a: Float[Array, "*batch T D"], b: Float[Array, "*batch T D"], pool: Pool, distance: Distance
) -> Float[Array, "*batch"]:
    """How far apart two sets of features are, over all tokens or after pooling these."""
    pools = {
        "mean": lambda x: x.mean(-2),
        "max": lambda x: x.max(-2),
        "none": lambda x: x.reshape(*x.shape[:-2], -1),
    }
    a, b = pools[pool](a), pools[pool](b)
    if distance == "cosine":
        norms = jnp.sqrt((a**2).sum(-1) * (b**2).sum(-1))
        return 1 - (a * b).sum(-1) / jnp.maximum(norms, jnp.finfo(norms.dtype).tiny)
    square = ((a - b) ** 2).sum(-1)
    if distance == "sq_euclidean":
        return square
    apart = square > 0  # the root has no gradient at 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)


def pairwise_losses(
    scores: Float[Array, "*batch G"],
    advantages: Float[Array, "*batch G"],
    kept: Bool[Array, "*batch G"],
    gamma: Scalar = 0.0,
    smoothing: Scalar = 0.0,
) -> tuple[Float[Array, "*batch G"], Bool[Array, "*batch G"]]:
    """Loss of every preferred sample: the mean over all that it is preferred to.

    Args:
      scores: margins are their differences (`dpo_scores`; in SimPO beta times the log-likelihood
        per token).
      advantages: positive for preferred samples, negative for those that they are preferred to.
      kept: samples that count.
      gamma: what a difference should be at least.
      smoothing: see `preference_loss`.

    Returns:
      The losses, and which samples have one: those preferred to some.
    """
    better, worse = kept & (advantages > 0), kept & (advantages < 0)
    margin = scores[..., :, None] - scores[..., None, :] - gamma
    pairs = better[..., :, None] & worse[..., None, :]
    # Margins of samples that do not count may be anything, and so may their gradients.
    losses = preference_loss(jnp.where(pairs, margin, 0), smoothing)
    return masked_mean(losses, pairs, axis=-1), pairs.any(-1)
