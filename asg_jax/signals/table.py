"""The signals by name: what was said and drawn -> a number for every sample.

A reward is a mapping from these names to weights. A new signal is a function here or beside the
others, and one line in its table.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.errors import UserError
from asg_jax.ops.masked import masked_mean
from asg_jax.pytree import pytree
from asg_jax.signals import cycle, diversity, fidelity, verdicts, vote
from asg_jax.signals.fidelity import Fidelity
from asg_jax.signals.verdicts import YesNo
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

    What no signal of a reward needs is None.

    Attributes:
      asked: questions that exist.
      exists: drawings that count.
      match: agreement of the majority's answer with the reference, in [0, 1].
      fraction: share of the majority.
      contradiction: 1 where one says yes and the other no.
      probability: what the judge gives the reference answer, in [0, 1]; None if no signal needs it.
      prompts: embeddings of the prompts.
      captions: embeddings of the drawings' captions.
      pictures: embeddings of the drawings in the space of the texts; None if no signal needs them.
      likelihood: nats per token of the prompt given the drawing; None if no signal needs it.
      features: what the vision tower gives for the drawings, normalised.
      verdict: probabilities that a drawing is told to show its prompt, or not to.
      answers: probabilities of what is right, and of its contrary, as the answer to each question.
    """

    asked: Bool[Array, "B M"]
    exists: Bool[Array, "B L"]
    match: Float[Array, "B L M"] | None = None
    fraction: Float[Array, "B L M"] | None = None
    contradiction: Float[Array, "B L M"] | None = None
    probability: Float[Array, "B L M"] | None = None
    prompts: Float[Array, "B D"] | None = None
    captions: Float[Array, "B L D"] | None = None
    pictures: Float[Array, "B L D"] | None = None
    likelihood: Float[Array, "B L"] | None = None
    features: Float[Array, "B L F"] | None = None
    verdict: YesNo | None = None
    answers: YesNo | None = None


@dataclass(frozen=True)
class Numbers:
    """Thresholds and inner weights of the signals.

    Attributes:
      consistency: how votes become signals.
      fidelity: how answers are compared with references.
    """

    consistency: Consistency = field(default_factory=Consistency)
    fidelity: Fidelity = field(default_factory=Fidelity)


# Facts that come from answers about a drawing beside those about another picture of its prompt.
COMPARED = frozenset({"match", "fraction", "contradiction", "probability"})


@dataclass(frozen=True)
class Signal:
    """One signal.

    Attributes:
      read: (what was said and drawn, thresholds) -> a number for every sample.
      needs: optional facts without which it cannot be read, by their names in the record.
    """

    read: Callable[[Any, Numbers], Float[Array, "B G"]]
    needs: tuple[str, ...] = ()

    @property
    def compares(self) -> bool:
        """Whether it asks the same about a drawing and about another picture of its prompt."""
        return not COMPARED.isdisjoint(self.needs)


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
    assert drawn.match is not None and drawn.fraction is not None  # needs of the signal
    scores = fidelity.pair_score(drawn.match, drawn.fraction, numbers.fidelity)
    return fidelity.qa_fidelity(scores, drawn.asked[:, None])


def probability_fidelity(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """S_fid in [0, 1] by the probabilities of the reference answers."""
    assert drawn.probability is not None  # a need of the signal
    return fidelity.qa_fidelity(drawn.probability, drawn.asked[:, None])


def caption_cosine(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """Similarity of prompt and the drawing's caption, in [0, 1]."""
    assert drawn.captions is not None and drawn.prompts is not None  # needs of the signal
    return cycle.similarity(drawn.captions, drawn.prompts[:, None])


def cosine_cycle(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """S_cyc in [0, 1] with the embeddings of prompt and drawing."""
    assert drawn.pictures is not None and drawn.prompts is not None  # needs of the signal
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
    assert drawn.contradiction is not None  # a need of the signal
    return masked_mean(drawn.contradiction, drawn.asked[:, None], axis=-1)


def prompt_likelihood(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """Log-likelihood of the prompt as the drawing's caption, in nats per token. (SUDER.)"""
    assert drawn.likelihood is not None  # a need of the signal
    return drawn.likelihood


def gvu(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """Geometric mean of the probabilities of the prompt's tokens, in (0, 1]. (GvU.)"""
    return jnp.exp(prompt_likelihood(drawn, numbers))


def p_yes(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """Probability of yes to "does it show the prompt", among yes and no, in [0, 1]."""
    assert drawn.verdict is not None  # a need of the signal
    return drawn.verdict.preference


def accepted(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """1 where yes is at least as likely as no, else 0. (Internal Gap.)"""
    return (p_yes(drawn, numbers) >= 0.5).astype(jnp.float32)


def yes_margin(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """p(yes) - p(no) to "does it show the prompt", in [-1, 1]."""
    assert drawn.verdict is not None  # a need of the signal
    return drawn.verdict.yes - drawn.verdict.no


def question_margin(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """Mean of p(right) - p(wrong) over the questions on the prompt, in [-1, 1]. (SILMM.)"""
    assert drawn.answers is not None  # a need of the signal
    return verdicts.question_margin(drawn.answers.yes, drawn.answers.no, drawn.asked[:, None])


def share_of_yes(drawn: Drawn, numbers: Numbers) -> Float[Array, "B L"]:
    """Share of the questions on the prompt whose right answer is the likelier one. (CoT-V.)"""
    assert drawn.answers is not None  # a need of the signal
    right = drawn.answers.yes > drawn.answers.no
    return verdicts.share_of_yes(right, drawn.asked[:, None])


QUESTIONS: dict[str, Signal] = {
    "difficulty": Signal(difficulty),
    "consistency": Signal(consistency),
}
DRAWINGS: dict[str, Signal] = {
    "vote_fidelity": Signal(vote_fidelity, ("match", "fraction")),
    "probability_fidelity": Signal(probability_fidelity, ("probability",)),
    "cosine_cycle": Signal(cosine_cycle, ("captions", "prompts", "pictures")),
    "likelihood_cycle": Signal(likelihood_cycle, ("captions", "prompts", "likelihood")),
    "diversity": Signal(leave_one_out, ("features",)),
    "contradiction": Signal(contradiction, ("contradiction",)),
    "likelihood": Signal(prompt_likelihood, ("likelihood",)),
    "gvu": Signal(gvu, ("likelihood",)),
    "p_yes": Signal(p_yes, ("verdict",)),
    "accepted": Signal(accepted, ("verdict",)),
    "yes_margin": Signal(yes_margin, ("verdict",)),
    "question_margin": Signal(question_margin, ("answers",)),
    "share_of_yes": Signal(share_of_yes, ("answers",)),
}


def weights_of(table: Mapping[str, Signal], **weights: float) -> dict[str, float]:
    """A reward over a table: the given weights, and 0 for every other signal."""
    return dict.fromkeys(table, 0.0) | weights


def check_weights(
    name: str,
    table: Mapping[str, Signal],
    weights: Mapping[str, float],
    known: Container[str] | None = None,
) -> None:
    """Makes sure that a reward names signals of its table, and that they can be read.

    Args:
      name: how the setting is called in errors.
      table: the signals, by name.
      weights: factors of the signals in the reward, by name; 0 leaves one out.
      known: optional facts that the method finds out; None is all.

    Raises:
      UserError: a name is unknown, no signal has a weight, or one cannot be read.
    """
    for signal in weights:
        if signal not in table:
            raise UserError(f"{name}.{signal} is no signal; known are {', '.join(table)}.")
    if not any(weights.values()):
        raise UserError(f"{name} gives no signal a weight; choose from {', '.join(table)}.")
    readable = {
        n for n, one in table.items() if known is None or all(f in known for f in one.needs)
    }
    for signal, weight in weights.items():
        if weight and signal not in readable:
            raise UserError(
                f"{name}.{signal} needs what this method does not find out; choose from"
                f" {', '.join(sorted(readable))}."
            )


def needed(table: Mapping[str, Signal], weights: Mapping[str, float]) -> frozenset[str]:
    """The optional facts that a reward needs."""
    return frozenset(need for name, w in weights.items() if w for need in table[name].needs)


def read(
    table: Mapping[str, Signal], weights: Mapping[str, float], record: Any, numbers: Numbers
) -> dict[str, Float[Array, "B G"]]:
    """The signals of a reward, by name; those without a weight are left out."""
    return {name: table[name].read(record, numbers) for name, w in weights.items() if w}
