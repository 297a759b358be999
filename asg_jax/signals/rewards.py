"""Rewards, made of the signals.

Ask, Solve, Generate (arXiv 2606.27376), understanding and generation step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from asg_jax.signals.vote import PAPER, Consistency, Vote, informativeness


@dataclass(frozen=True)
class Penalties:
    """What the faults of a question's form (`asg_jax.answers.QuestionForm`) cost; they add up.

    Attributes:
      malformed: is no question.
      subjective: asks for an opinion.
      repeated: another candidate for the picture asks the same.
    """

    malformed: float = 0.35
    subjective: float = 0.20
    repeated: float = 0.15


@dataclass(frozen=True)
class AnswerReward:
    """What an answer earns in a vote, beside the share of the vote that agrees with it.

    Attributes:
      disagreement: reward of the minority, times what the vote can teach; it is negative.
      noncanonical: cost of answers outside their question's classes, or of low information.
      low_information: further cost of answers that say nothing ("unclear", "several").
      terse: words before the answer that cost nothing.
      verbose: words from which on the cost no longer grows.
      verbosity: largest cost of words, as a share of the reward's size.
      power: exponent of the share of the votes that an answer's class has.
      least: scale of votes that teach nothing.
    """

    disagreement: float = -0.25
    noncanonical: float = 0.10
    low_information: float = 0.08
    terse: int = 6
    verbose: int = 12
    verbosity: float = 0.1
    power: float = 0.7
    least: float = 1e-4


PENALTIES, ANSWERS = Penalties(), AnswerReward()


class Best(NamedTuple):
    """The winner of each group.

    Attributes:
      place: where the sample stands in its group.
      exists: whether any sample was allowed.
    """

    place: Int[Array, "*batch"]
    exists: Bool[Array, "*batch"]

    def pick(self, x: Shaped[Array, "B K ..."]) -> Shaped[Array, "B ..."]:
        """The winners' entries."""
        place = self.place.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.take_along_axis(x, place, axis=1)[:, 0]


def weighted(
    values: Mapping[str, Float[Array, "*batch"]], weights: Mapping[str, float]
) -> Float[Array, "*batch"]:
    """The signals of a reward, each times its weight; those without a weight do not count."""
    parts = [weight * values[name] for name, weight in weights.items() if weight]
    return sum(parts[1:], start=parts[0])


def question_penalty(
    malformed: Bool[Array, "*batch"],
    subjective: Bool[Array, "*batch"],
    repeated: Bool[Array, "*batch"],
    costs: Penalties = PENALTIES,
) -> Float[Array, "*batch"]:
    """What the faults of a question's form cost together."""
    return costs.malformed * malformed + costs.subjective * subjective + costs.repeated * repeated


def solver_rewards(
    vote: Vote,
    words: Int[Array, "*batch N"],
    noncanonical: Bool[Array, "*batch N"],
    low_information: Bool[Array, "*batch N"],
    numbers: AnswerReward = ANSWERS,
    consistency: Consistency = PAPER,
) -> Float[Array, "*batch N"]:
    """Reward of every answer: agreement with the majority, scaled by what the vote can teach.

    Args:
      vote: what the N answers agree on; absent ones get 0.
      words: words before the answer span. Many of them cost; a negative reward grows more negative,
        so that verbosity never softens a wrong answer.
      noncanonical: answers outside their question's classes, or of low information.
      low_information: answers that say nothing.
      numbers: what the parts weigh.
      consistency: what a vote can teach.
    """
    taught = informativeness(vote.entropy, vote.margin, consistency)
    scale = jnp.maximum(numbers.least, taught)[..., None]
    raw = jnp.where(vote.agrees, scale, numbers.disagreement * scale)
    raw -= numbers.noncanonical * noncanonical + numbers.low_information * low_information
    wordy = jnp.clip((words - numbers.terse) / (numbers.verbose - numbers.terse), 0, 1)
    return vote.shares**numbers.power * (raw - numbers.verbosity * wordy * jnp.abs(raw))


def agreement_rewards(
    shares: Float[Array, "*batch N"],
    words: Int[Array, "*batch N"],
    power: float = 0.7,
    verbosity: float = 0.1,
    terse: int = 6,
) -> Float[Array, "*batch N"]:
    """What answers earn for agreeing with others, less a part for many words before the answer.

    (EvoLMM, arXiv 2511.16672, reward of the Solver.)

    Args:
      shares: share of the votes that an answer's own class has, in [0, 1].
      words: how many stand before the answer span.
      power: exponent of the share.
      verbosity: largest cost of words, as a share of the reward; it is reached at twice `terse`.
      terse: words that cost nothing.
    """
    return shares**power * (1 - verbosity * jnp.clip((words - terse) / terse, 0, 1))


def best(rewards: Float[Array, "*batch K"], allowed: Bool[Array, "*batch K"]) -> Best:
    """The highest reward of each group among the allowed candidates."""
    return Best(jnp.where(allowed, rewards, -jnp.inf).argmax(-1), allowed.any(-1))
