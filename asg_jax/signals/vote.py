"""What a vote over the answers to one question says about the question.

The self-consistency signal of Ask, Solve, Generate (arXiv 2606.27376), understanding step.
Entropies are in nats. N is the number of answers to a question, one per framing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.signals.groups import Scalar, masked_mean


class Vote(NamedTuple):
    """The outcome of a vote.

    Attributes:
      majority: class of the winner.
      agrees: which answers are in that class.
      shares: share of the votes that an answer's own class has; 0 where an answer is absent.
      fraction: share of the winner.
      margin: the winner's share above the second's, which is 0 in a unanimous vote.
      entropy: of the shares over classes.
    """

    majority: Int[Array, "*batch"]
    agrees: Bool[Array, "*batch N"]
    shares: Float[Array, "*batch N"]
    fraction: Float[Array, "*batch"]
    margin: Float[Array, "*batch"]
    entropy: Float[Array, "*batch"]


def vote(labels: Int[Array, "*batch N"], mask: Bool[Array, "*#batch #N"]) -> Vote:
    """Counts votes; among classes of equal count the one seen first wins.

    Args:
      labels: class of every answer; any integers, equal where the answers mean the same.
      mask: which answers exist. Without any, nothing agrees and every number is 0.
    """
    mask = jnp.broadcast_to(mask, labels.shape)
    same = labels[..., :, None] == labels[..., None, :]
    same &= mask[..., :, None] & mask[..., None, :]
    counts = same.sum(-1)
    total = jnp.maximum(mask.sum(-1, keepdims=True), 1)
    shares = counts / total
    winner = counts.argmax(-1, keepdims=True)
    agrees = jnp.take_along_axis(same, winner[..., None], axis=-2)[..., 0, :]
    fraction = shares.max(-1)
    # A class of n answers is summed n times, each with weight 1 / total: together its share.
    surprise = jnp.where(mask, jnp.log(total / jnp.maximum(counts, 1)), 0)
    return Vote(
        majority=jnp.take_along_axis(labels, winner, axis=-1)[..., 0],
        agrees=agrees,
        shares=shares,
        fraction=fraction,
        margin=fraction - jnp.where(agrees, 0, shares).max(-1),
        entropy=(surprise / total).sum(-1),
    )


def gaussian(x: Float[Array, "*batch"], mean: Scalar, spread: Scalar) -> Float[Array, "*batch"]:
    """exp(-(x - mean)^2 / (2 spread^2)), 1 at the peak; 0 everywhere if the spread is 0."""
    wide = jnp.asarray(spread) > 0
    return jnp.where(wide, jnp.exp(-(((x - mean) / jnp.where(wide, spread, 1)) ** 2) / 2), 0)


def informativeness(
    entropy: Float[Array, "*batch"], margin: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """How much a vote can teach, in [0, 1]: medium entropy is best, a wide margin is worth less."""
    band = gaussian(entropy, 0.675, 0.525)
    return jnp.clip(0.5 * band + 0.5 * jnp.maximum(0, 1 - margin / 0.90), 0, 1)


def self_consistency_score(
    entropy: Float[Array, "*batch"], margin: Float[Array, "*batch"], target: Scalar
) -> Float[Array, "*batch"]:
    """The Proposer's r_sc, in [-1, 1]: informativeness, and closeness to the entropy target."""
    information = jnp.clip(2 * informativeness(entropy, margin) - 1, -1, 1)
    return jnp.clip(0.9 * information + 0.1 * gaussian(entropy, target, 0.25), -1, 1)


def entropy_target_update(
    target: Scalar, entropies: Float[Array, "*batch"], kept: Bool[Array, "*#batch"]
) -> Float[Array, ""]:
    """The running entropy target (0.90 at the start) after a step; as it was if none is kept."""
    observed = jnp.clip(masked_mean(entropies, kept), 0.65, 1.5)
    return jnp.where(kept.any(), 0.9 * target + 0.1 * observed, target)


def is_easy(vote: Vote) -> Bool[Array, "*batch"]:
    """Questions that (nearly) all answers agree on: the Solver has nothing to learn from them."""
    return (vote.fraction >= 0.85) & (vote.margin > 0.90)
