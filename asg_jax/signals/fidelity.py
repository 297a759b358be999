"""Does an image show what was asked for: the Solver's answers on it against reference answers.

References are the Solver's own answers on the real image. Matching needs text and runs on the host;
the numbers that it yields are combined in arrays of M questions per image. (Ask, Solve, Generate,
arXiv 2606.27376, generation step.)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.answers import normalize_answer, polarity, vote_label, yes_or_no
from asg_jax.signals.groups import masked_mean

MIN_PAIRS, MAX_PAIRS = 2, 3
MIN_QUALITY = 0.65

Pair = tuple[str, str]  # question, reference answer


class Judgement(NamedTuple):
    """How the answers to one question on a generated image relate to the reference.

    Attributes:
      match: of the majority's answer, in [0, 1].
      fraction: share of the majority.
      contradiction: 1 if one is an explicit yes and the other an explicit no, else 0.
    """

    match: float
    fraction: float
    contradiction: float


class SpecQuality(NamedTuple):
    """What makes a set of question-answer pairs fit to judge images.

    Attributes:
      kept: the valid pairs, each question once, three at most.
      completeness: kept pairs of the two that are needed, at most 1.
      validity: share of the pairs that were kept.
      uniqueness: 1 if there is a pair.
      yes_no_penalty: taken off where nothing but yes and no is asked for.
    """

    kept: tuple[Pair, ...]
    completeness: float
    validity: float
    uniqueness: float
    yes_no_penalty: float

    @property
    def quality(self) -> float:
        """All of it as one number in [0, 1]."""
        score = 0.5 * self.completeness + 0.3 * self.validity + 0.2 * self.uniqueness
        return min(1.0, max(0.0, score - self.yes_no_penalty))

    @property
    def accepted(self) -> bool:
        """Whether images may be judged by these pairs; if not, the Proposer tries again."""
        return len(self.kept) >= MIN_PAIRS and self.quality >= MIN_QUALITY


def soft_match(predicted: str, expected: str) -> float:
    """Agreement of two answers in [0, 1], after `normalize_answer`.

    1 if they are equal, 0.8 if one contains the other, less the further apart two numbers are, else
    the share of common words; 1/2 if nothing is expected.
    """
    predicted, expected = normalize_answer(predicted), normalize_answer(expected)
    if not expected or not predicted:
        return 0.0 if expected else 0.5
    if predicted == expected:
        return 1.0
    if predicted in expected or expected in predicted:
        return 0.8
    x, y = _number(predicted), _number(expected)
    if x is not None and y is not None:
        error = abs(x - y) / max(abs(y), 1)
        return 1.0 if error <= 0.01 else 0.7 if error <= 0.05 else 0.4 if error <= 0.20 else 0.0
    a, b = set(re.findall(r"\w+", predicted)), set(re.findall(r"\w+", expected))
    return len(a & b) / max(1, len(a | b))


def judge_pair(question: str, answers: Sequence[str], reference: str) -> Judgement:
    """Votes over the answers to one question and compares the winner with the reference."""
    labels = [vote_label(question, answer).name for answer in answers]
    winner, votes = Counter(labels).most_common(1)[0]  # of equal counts the one seen first
    answer = answers[labels.index(winner)]
    conflict = polarity(answer) * polarity(reference) < 0
    return Judgement(soft_match(answer, reference), votes / len(answers), float(conflict))


def pair_score(
    match: Float[Array, "*batch"], fraction: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Score of one question: mostly the match, partly how sure the vote is."""
    return 0.7 * match + 0.3 * fraction


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


def spec_quality(pairs: Sequence[Pair]) -> SpecQuality:
    """Judges question-answer pairs before any image is drawn.

    A pair is valid if its question has at most 24 words and its answer 1 to 8. A question mark is
    added where it is missing.
    """
    valid: dict[str, Pair] = {}
    for question, answer in pairs:
        question = question.strip().removesuffix("?").rstrip() + "?"
        if len(question.split()) <= 24 and 1 <= len(answer.split()) <= 8:
            valid.setdefault(normalize_answer(question, max_words=0), (question, answer))
    kept = tuple(valid.values())[:MAX_PAIRS]
    only_yes_no = len(kept) >= 2 and all(yes_or_no(normalize_answer(a)) for _, a in kept)
    return SpecQuality(
        kept=kept,
        completeness=min(1.0, len(kept) / MIN_PAIRS),
        validity=len(kept) / max(1, len(pairs)),
        uniqueness=float(bool(kept)),
        yes_no_penalty=0.2 * only_yes_no,
    )


def _number(text: str) -> float | None:
    found = re.search(r"[-+]?\d+(?:\.\d+)?", text)
    return float(found[0]) if found else None
