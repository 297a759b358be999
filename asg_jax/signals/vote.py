"""What a vote over the answers to one question says about the question.

The self-consistency signal of Ask, Solve, Generate (arXiv 2606.27376), understanding step.
Entropies are in nats. N is the number of answers to a question, one per framing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.ops.masked import Scalar, masked_mean


@dataclass(frozen=True)
class Consistency:
    """How votes are turned into signals; entropies in nats, shares and margins in [0, 1].

    Attributes:
      entropy_peak: entropy that teaches most.
      entropy_width: standard deviation of the band around it.
      margin_range: margin from which on a vote's margin is worth nothing.
      information: share of the informativeness in the score; the rest is closeness to the target.
      target_start: running entropy target before the first step.
      target_width: standard deviation of the band around it.
      target_decay: how much a step keeps of the running target.
      target_range: what an observed entropy is clipped to before it moves the target.
      easy_fraction: share of the majority from which on a question may be too easy to learn from.
      easy_margin: margin above which it is.
      informative: entropies between which a question counts as informative in reports.
      gain_decay: how much a step keeps of the running gain of votes.
    """

    entropy_peak: float = 0.675
    entropy_width: float = 0.525
    margin_range: float = 0.90
    information: float = 0.9
    target_start: float = 0.90
    target_width: float = 0.25
    target_decay: float = 0.9
    target_range: tuple[float, float] = (0.65, 1.5)
    easy_fraction: float = 0.85
    easy_margin: float = 0.90
    informative: tuple[float, float] = (0.02, 1.0)
    gain_decay: float = 0.9


PAPER = Consistency()


class Vote(NamedTuple):
    """The outcome of a vote.

    Attributes:
      majority: class of the winner.
      agrees: which answers are in that class.
      shares: share of the votes that an answer's own class has; 0 where an answer is absent.
      fraction: share of the winner.
      margin: the winner's share above the second's, which is 0 in a unanimous vote.
      entropy: nats of the shares over classes.
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
    same = _same(labels, mask)
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


def vote_gain(
    labels: Int[Array, "*batch N"], greedy: Int[Array, "*batch"], mask: Bool[Array, "*#batch #N"]
) -> Float[Array, "*batch"]:
    """How much better a vote foretells another answer than the greedy answer does, in [-1, 1].

    The mean over the answers: 1 where the vote of all the others agrees with one, less 1 where the
    greedy answer does. Where framings of a question differ by noise alone the greedy answer is as
    good a guess as any vote of few, and there is nothing to be learned from votes.

    Args:
      labels: class of every answer; see `vote`.
      greedy: class of the greedy answer, by the same numbers.
      mask: which answers exist. With less than two the gain is 0.
    """
    mask = jnp.broadcast_to(mask, labels.shape)
    same = _same(labels, mask)
    others = ~jnp.eye(labels.shape[-1], dtype=bool) & mask[..., None, :]
    counts = jnp.where(others, same.sum(-1)[..., None, :] - same, -1)
    foretold = jnp.take_along_axis(same, counts.argmax(-1, keepdims=True), axis=-1)[..., 0]
    gains = foretold.astype(jnp.float32) - (labels == greedy[..., None])
    return masked_mean(gains, mask & (mask.sum(-1, keepdims=True) > 1), axis=-1)


def _same(
    labels: Int[Array, "*batch N"], mask: Bool[Array, "*batch N"]
) -> Bool[Array, "*batch N N"]:
    """Which two answers exist and mean the same."""
    both = mask[..., :, None] & mask[..., None, :]
    return (labels[..., :, None] == labels[..., None, :]) & both


def gaussian(x: Float[Array, "*batch"], mean: Scalar, spread: Scalar) -> Float[Array, "*batch"]:
    """exp(-(x - mean)^2 / (2 spread^2)), 1 at the peak; 0 everywhere if the spread is 0."""
    wide = jnp.asarray(spread) > 0
    return jnp.where(wide, jnp.exp(-(((x - mean) / jnp.where(wide, spread, 1)) ** 2) / 2), 0)


def informativeness(
    entropy: Float[Array, "*batch"], margin: Float[Array, "*batch"], numbers: Consistency = PAPER
) -> Float[Array, "*batch"]:
    """How much a vote can teach, in [0, 1]: medium entropy is best, a wide margin is worth less."""
    band = gaussian(entropy, numbers.entropy_peak, numbers.entropy_width)
    open_vote = jnp.maximum(0, 1 - margin / numbers.margin_range)
    return jnp.clip(0.5 * band + 0.5 * open_vote, 0, 1)


def self_consistency_score(
    entropy: Float[Array, "*batch"],
    margin: Float[Array, "*batch"],
    target: Scalar,
    numbers: Consistency = PAPER,
) -> Float[Array, "*batch"]:
    """The Proposer's r_sc, in [-1, 1]: informativeness, and closeness to the entropy target."""
    information = jnp.clip(2 * informativeness(entropy, margin, numbers) - 1, -1, 1)
    near = gaussian(entropy, target, numbers.target_width)
    share = numbers.information
    return jnp.clip(share * information + (1 - share) * near, -1, 1)


def entropy_target_update(
    target: Scalar,
    entropies: Float[Array, "*batch"],
    kept: Bool[Array, "*#batch"],
    numbers: Consistency = PAPER,
) -> Float[Array, ""]:
    """The running entropy target after a step; as it was if none is kept."""
    observed = jnp.clip(masked_mean(entropies, kept), *numbers.target_range)
    decay = numbers.target_decay
    return jnp.where(kept.any(), decay * target + (1 - decay) * observed, target)


def is_easy(vote: Vote, numbers: Consistency = PAPER) -> Bool[Array, "*batch"]:
    """Questions that (nearly) all answers agree on: the Solver has nothing to learn from them."""
    return (vote.fraction >= numbers.easy_fraction) & (vote.margin > numbers.easy_margin)
