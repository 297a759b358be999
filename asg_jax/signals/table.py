"""The signals by name: what was said and drawn -> a number for every sample.

A reward is a mapping from these names to weights. A new signal is a function here or beside the
others, and one line in its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.errors import UserError
from asg_jax.ops.masked import masked_mean
from asg_jax.pytree import pytree
from asg_jax.signals import cycle, diversity, fidelity, vote
from asg_jax.signals.fidelity import Fidelity
from asg_jax.signals.vote import Consistency, Vote


@pytree
class Asked:
    """K questions on each of B pictures, and what the answers to them say.

    Attributes:
      vote: what the answers to each question agree on.
      difficulty: percentile of the greedy answer's token entropy among recent ones.
      target: running entropy target of the votes, in nats.
      answered: questions that were answered.
    """

    vote: Vote
    difficulty: Float[Array, "B K"]
    target: Float[Array, ""]
    answered: Bool[Array, "B K"]


@pytree
class Drawn:
    """L drawings of each of B prompts, and what M questions on each found.

    What no signal of a reward needs (`Signal.needs`) is None; what the answers say is then 0.

    Attributes:
      asked: questions that exist.
      exists: drawings that count.
      match: agreement of the majority's answer with the reference, in [0, 1].
      fraction: share of the majority.
      contradiction: 1 where one says yes and the other no.
      probability: what the judge gives the reference answer.
      prompts: embeddings of the prompts.
      captions: embeddings of the drawings' captions.
      pictures: embeddings of the drawings in the space of the texts.
      likelihood: nats per token of the prompt given the drawing.
      features: what the vision tower gives for the drawings.
    """

    asked: Bool[Array, "B M"]
    exists: Bool[Array, "B L"]
    match: Float[Array, "B L M"]
    fraction: Float[Array, "B L M"]
    contradiction: Float[Array, "B L M"]
    probability: Float[Array, "B L M"] | None
    prompts: Float[Array, "B D"] | None
    captions: Float[Array, "B L D"] | None
    pictures: Float[Array, "B L D"] | None
    likelihood: Float[Array, "B L"] | None
    features: Float[Array, "B L F"] | None


@dataclass(frozen=True)
class Numbers:
    """Thresholds and inner weights of the signals.

    Attributes:
      consistency: how votes become signals.
      fidelity: how answers are compared with references.
    """

    consistency: Consistency = field(default_factory=Consistency)
    fidelity: Fidelity = field(default_factory=Fidelity)


@dataclass(frozen=True)
class Signal:
    """One signal.

    Attributes:
      read: (what was said and drawn, thresholds) -> a number for every sample.
      needs: facts without which it cannot be read, by their names in `engine.programs.Replies`
        and `engine.programs.Likeness`.
    """

    read: Callable[[Any, Numbers], Float[Array, "B G"]]
    needs: tuple[str, ...] = ()


def consistency(asked: Asked, numbers: Numbers) -> Float[Array, "B K"]:
    """r_sc in [-1, 1]; -1 where nothing was answered."""
    votes = asked.vote
    score = vote.self_consistency_score(
        votes.entropy, votes.margin, asked.target, numbers.consistency
    )
    return jnp.where(asked.answered, score, -1)


def difficulty(asked: Asked, numbers: Numbers) -> Float[Array, "B K"]:
    """d_ste in [0, 1]; 0 where nothing was answered."""
    return jnp.where(asked.answered, asked.difficulty, 0)


def vote_fidelity(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """S_fid in [0, 1] by the texts of the answers."""
    scores = fidelity.pair_score(drawn.match, drawn.fraction, numbers.fidelity)
    return fidelity.qa_fidelity(scores, drawn.asked[:, None])


def probability_fidelity(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """S_fid in [0, 1] by the probabilities of the reference answers."""
    assert drawn.probability is not None  # a need of the signal
    return fidelity.qa_fidelity(drawn.probability, drawn.asked[:, None])


def caption_cosine(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """Similarity of prompt and the drawing's caption, in [0, 1]."""
    assert drawn.captions is not None and drawn.prompts is not None  # a need of the signal
    return cycle.similarity(drawn.captions, drawn.prompts[:, None])


def cosine_cycle(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """S_cyc in [0, 1] with the embeddings of prompt and drawing."""
    assert drawn.pictures is not None and drawn.prompts is not None  # a need of the signal
    related = cycle.similarity(drawn.pictures, drawn.prompts[:, None])
    return cycle.cycle_score(caption_cosine(drawn, numbers), related)


def likelihood_cycle(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """S_cyc in [0, 1] with the likelihood of the prompt given the drawing."""
    assert drawn.likelihood is not None  # a need of the signal
    everything = jnp.ones(drawn.likelihood.shape, bool)
    related = cycle.likelihood_similarity(drawn.likelihood, everything)
    return cycle.cycle_score(caption_cosine(drawn, numbers), related)


def leave_one_out(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """S_div in [0, 1]: what a drawing adds to the variety of its group."""
    assert drawn.features is not None  # a need of the signal
    return diversity.leave_one_out_diversity(
        diversity.pairwise_distances(drawn.features), drawn.exists
    )


def contradiction(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """S_ctr in [0, 1]: share of the questions that are contradicted."""
    return masked_mean(drawn.contradiction, drawn.asked[:, None], axis=-1)


QUESTIONS: dict[str, Signal] = {
    "difficulty": Signal(difficulty),
    "consistency": Signal(consistency),
}
DRAWINGS: dict[str, Signal] = {
    "vote_fidelity": Signal(vote_fidelity, ("answers",)),
    "probability_fidelity": Signal(probability_fidelity, ("probability",)),
    "cosine_cycle": Signal(cosine_cycle, ("captions", "pictures")),
    "likelihood_cycle": Signal(likelihood_cycle, ("captions", "likelihood")),
    "diversity": Signal(leave_one_out, ("features",)),
    "contradiction": Signal(contradiction, ("answers",)),
}


def weights_of(table: Mapping[str, Signal], **weights: float) -> dict[str, float]:
    """A reward over a table: the given weights, and 0 for every other signal."""
    return dict.fromkeys(table, 0.0) | weights


def check_weights(name: str, table: Mapping[str, Signal], weights: Mapping[str, float]) -> None:
    """Makes sure that a reward names signals of its table.

    Raises:
      UserError: a name is unknown, or no signal has a weight.
    """
    for signal in weights:
        if signal not in table:
            raise UserError(f"{name}.{signal} is no signal; known are {', '.join(table)}.")
    if not any(weights.values()):
        raise UserError(f"{name} gives no signal a weight; choose from {', '.join(table)}.")


def needed(table: Mapping[str, Signal], weights: Mapping[str, float]) -> frozenset[str]:
    """The facts that a reward needs."""
    return frozenset(need for name, w in weights.items() if w for need in table[name].needs)


def read(
    table: Mapping[str, Signal], weights: Mapping[str, float], record: Any, numbers: Numbers
) -> dict[str, Float[Array, "B G"]]:
    """The signals of a reward, by name; those without a weight are left out."""
    return {name: table[name].read(record, numbers) for name, w in weights.items() if w}
