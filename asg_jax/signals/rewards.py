"""The rewards of the three roles, made of the other signals.

Ask, Solve, Generate (arXiv 2606.27376), understanding and generation step.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.signals.vote import Vote, informativeness


class GenerationWeights(NamedTuple):
    """What the parts of the generation reward weigh; the contradiction is subtracted."""

    fidelity: float = 0.65
    cycle: float = 0.20
    diversity: float = 0.10
    contradiction: float = 0.20


GENERATION_WEIGHTS = GenerationWeights()


def question_penalty(
    malformed: Bool[Array, "*batch"],
    subjective: Bool[Array, "*batch"],
    repeated: Bool[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """What the faults of a question's form (`asg_jax.answers.QuestionForm`) cost together."""
    return 0.35 * malformed + 0.20 * subjective + 0.15 * repeated


def proposer_reward(
    difficulty: Float[Array, "*batch"],
    self_consistency: Float[Array, "*batch"],
    penalty: Float[Array, "*batch"],
    answered: Bool[Array, "*batch"],
    ste_weight: float = 0.70,
    consistency_weight: float = 0.30,
) -> Float[Array, "*batch"]:
    """Reward of a question, in [-1, 1].

    Args:
      difficulty: d_ste in [0, 1].
      self_consistency: r_sc in [-1, 1].
      penalty: for faults of form, see `question_penalty`.
      answered: which questions were answered; the others count as d_ste = 0 and r_sc = -1.
      ste_weight: of the difficulty.
      consistency_weight: of the self-consistency.
    """
    difficulty = jnp.where(answered, difficulty, 0)
    self_consistency = jnp.where(answered, self_consistency, -1)
    score = ste_weight * difficulty + consistency_weight * self_consistency
    return jnp.clip(score - penalty, -1, 1)


def solver_rewards(
    vote: Vote,
    words: Int[Array, "*batch N"],
    noncanonical: Bool[Array, "*batch N"],
    low_information: Bool[Array, "*batch N"],
) -> Float[Array, "*batch N"]:
    """Reward of every answer: agreement with the majority, scaled by what the vote can teach.

    Args:
      vote: over the N answers; absent ones get 0.
      words: words before the answer span. From 7 on they cost, up to a tenth of the reward at 12;
        a negative reward grows more negative, so that verbosity never softens a wrong answer.
      noncanonical: answers outside their question's classes, or of low information.
      low_information: answers that say nothing ("unclear", "several").
    """
    scale = jnp.maximum(1e-4, informativeness(vote.entropy, vote.margin))[..., None]
    raw = jnp.where(vote.agrees, scale, -0.25 * scale)
    raw -= 0.10 * noncanonical + 0.08 * low_information
    verbosity = jnp.clip((words - 6) / 6, 0, 1)
    return vote.shares**0.7 * (raw - 0.1 * verbosity * jnp.abs(raw))


def generation_reward(
    fidelity: Float[Array, "*batch"],
    cycle: Float[Array, "*batch"],
    diversity: Float[Array, "*batch"],
    contradiction: Float[Array, "*batch"],
    spec_quality: Float[Array, "*#batch"],
    weights: GenerationWeights = GENERATION_WEIGHTS,
) -> Float[Array, "*batch"]:
    """Reward of a generated image; every argument is in [0, 1], the quality is its prompt's."""
    score = weights.fidelity * fidelity + weights.cycle * cycle + weights.diversity * diversity
    return (score - weights.contradiction * contradiction) * spec_quality


def best(
    rewards: Float[Array, "*batch K"], allowed: Bool[Array, "*batch K"]
) -> tuple[Int[Array, "*batch"], Bool[Array, "*batch"]]:
    """Index of the highest reward among the allowed candidates, and whether there is one."""
    return jnp.where(allowed, rewards, -jnp.inf).argmax(-1), allowed.any(-1)
