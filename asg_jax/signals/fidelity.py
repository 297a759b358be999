"""Does an image show what was asked for: the Solver's answers on it against reference answers.

References are the Solver's own answers on the real image. Matching needs text and runs on the host;
the numbers that it yields are combined in arrays of M questions per image. (Ask, Solve, Generate,
arXiv 2606.27376, generation step.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.answers import normalize_answer, polarity, vote_label, yes_or_no
from asg_jax.ops.masked import masked_mean

Pair = tuple[str, str]  # question, reference answer


@dataclass(frozen=True)
class Fidelity:
    """How answers are compared with references; scores in [0, 1].

    Attributes:
      match: weight of the majority's match in a question's score.
      fraction: weight of the majority's share.
      contained: match where one answer contains the other.
      near: match of numbers by their largest relative error, the closest first.
    """

    match: float = 0.7
    fraction: float = 0.3
    contained: float = 0.8
    near: tuple[tuple[float, float], ...] = ((0.01, 1.0), (0.05, 0.7), (0.20, 0.4))


@dataclass(frozen=True)
class SpecGate:
    """When questions are fit to judge drawings by.

    Attributes:
      pairs: fewest and most questions of a spec.
      quality: least quality, in [0, 1].
      question_words: most words of a question.
      answer_words: most words of a reference answer.
      completeness: weight of having enough pairs.
      validity: weight of the share of valid pairs.
      uniqueness: weight of having any pair.
      yes_no: taken off where nothing but yes and no is asked for.
    """

    pairs: tuple[int, int] = (2, 3)
    quality: float = 0.65
    question_words: int = 24
    answer_words: int = 8
    completeness: float = 0.5
    validity: float = 0.3
    uniqueness: float = 0.2
    yes_no: float = 0.2


FIDELITY, GATE = Fidelity(), SpecGate()


class Match(NamedTuple):
    """How the answers to one question on a generated image relate to the reference.

    Attributes:
      match: how well the majority's answer fits, in [0, 1].
      fraction: share of the majority.
      contradiction: 1 if one is an explicit yes and the other an explicit no, else 0.
    """

    match: float
    fraction: float
    contradiction: float


class SpecQuality(NamedTuple):
    """What makes a set of question-answer pairs fit to judge images.

    Attributes:
      kept: the valid pairs, each question once.
      completeness: kept pairs of those that are needed, at most 1.
      validity: share of the pairs that were kept.
      uniqueness: 1 if there is a pair.
      yes_no_penalty: taken off where nothing but yes and no is asked for.
      quality: all of it as one number in [0, 1].
      accepted: whether images may be judged by these pairs.
    """

    kept: tuple[Pair, ...]
    completeness: float
    validity: float
    uniqueness: float
    yes_no_penalty: float
    quality: float
    accepted: bool


def soft_match(predicted: str, expected: str, numbers: Fidelity = FIDELITY) -> float:
    """Agreement of two answers in [0, 1], after `normalize_answer`.

    1 if they are equal, less if one contains the other, less the further apart two numbers are,
    else the share of common words; 1/2 if nothing is expected.
    """
    predicted, expected = normalize_answer(predicted), normalize_answer(expected)
    if not expected or not predicted:
        return 0.0 if expected else 0.5
    if predicted == expected:
        return 1.0
    if predicted in expected or expected in predicted:
        return numbers.contained
    x, y = _number(predicted), _number(expected)
    if x is not None and y is not None:
        error = abs(x - y) / max(abs(y), 1)
        return next((score for most, score in numbers.near if error <= most), 0.0)
    a, b = set(re.findall(r"\w+", predicted)), set(re.findall(r"\w+", expected))
    return len(a & b) / max(1, len(a | b))


def winner(question: str, answers: Sequence[str]) -> tuple[int, float]:
    """The first answer of the most frequent class, and the class's share; ties: seen first."""
    labels = [vote_label(question, answer).name for answer in answers]
    label, votes = Counter(labels).most_common(1)[0]
    return labels.index(label), votes / len(answers)


def match_answers(
    question: str, answers: Sequence[str], reference: str, numbers: Fidelity = FIDELITY
) -> Match:
    """Votes over the answers to one question and compares the winner with the reference."""
    index, fraction = winner(question, answers)
    conflict = polarity(answers[index]) * polarity(reference) < 0
    return Match(soft_match(answers[index], reference, numbers), fraction, float(conflict))


def pair_score(
    match: Float[Array, "*batch"], fraction: Float[Array, "*batch"], numbers: Fidelity = FIDELITY
) -> Float[Array, "*batch"]:
    """Score of one question: mostly the match, partly how sure the vote is."""
    return numbers.match * match + numbers.fraction * fraction


def answer_probability(
    log_probs: Float[Array, "*batch T"], mask: Bool[Array, "*batch T"]
) -> Float[Array, "*batch"]:
    """Probability of the reference answer under the Solver: a score that needs no sampling."""
    return jnp.exp(jnp.where(mask, log_probs, 0).sum(-1))


def qa_fidelity(
    scores: Float[Array, "*batch M"], asked: Bool[Array, "*#batch #M"]
) -> Float[Array, "*batch"]:
    """S_fid: the mean score of the questions that were asked; 1/2 if there were none."""
    return masked_mean(scores, asked, axis=-1, empty=0.5)


def valid_pairs(pairs: Sequence[Pair], gate: SpecGate = GATE) -> tuple[Pair, ...]:
    """The pairs whose question and answer are short enough, each question once, with its mark."""
    valid: dict[str, Pair] = {}
    for question, answer in pairs:
        question = question.strip().removesuffix("?").rstrip() + "?"
        fits = 1 <= len(answer.split()) <= gate.answer_words
        if fits and len(question.split()) <= gate.question_words:
            valid.setdefault(normalize_answer(question, max_words=0), (question, answer))
    return tuple(valid.values())[: gate.pairs[1]]


def spec_quality(pairs: Sequence[Pair], gate: SpecGate = GATE) -> SpecQuality:
    """Judges question-answer pairs before any image is drawn."""
    kept, needed = valid_pairs(pairs, gate), gate.pairs[0]
    only_yes_no = len(kept) >= 2 and all(yes_or_no(normalize_answer(a)) for _, a in kept)
    parts = min(1.0, len(kept) / needed), len(kept) / max(1, len(pairs)), float(bool(kept))
    penalty = gate.yes_no * only_yes_no
    weights = gate.completeness, gate.validity, gate.uniqueness
    score = sum(weight * part for weight, part in zip(weights, parts, strict=True)) - penalty
    quality = min(1.0, max(0.0, score))
    accepted = len(kept) >= needed and quality >= gate.quality
    return SpecQuality(kept, *parts, penalty, quality, accepted)


def _number(text: str) -> float | None:
    found = re.search(r"[-+]?\d+(?:\.\d+)?", text)
    return float(found[0]) if found else None
