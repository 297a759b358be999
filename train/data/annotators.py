"""Annotators with habits: labels that are wrong in the same way again and again.

Random mistakes leave a learner's best guess untouched. People who label are consistent in theirs,
and a model that learned from them errs differently when it is asked in another's words.
"""

from __future__ import annotations

import numpy as np

from asg_jax.train.data.phrases import choose
from asg_jax.train.data.questions import KINDS, YES_NO, Question, Usage


def habit(annotator: int, kind: str) -> tuple[str, str] | None:
    """The true answer that an annotator does not give, and the one given instead, if any.

    Yes and no are never confused: half of the answers would be wrong, and nothing be learned.
    """
    options = Question(kind).options
    if options == YES_NO:
        return None
    mistaken = (KINDS.index(kind) + annotator) % len(options)
    return options[mistaken], options[(mistaken + 1) % len(options)]


def label(
    question: Question, truth: str, annotator: int, usage: Usage, rng: np.random.Generator
) -> str:
    """What an annotator answers.

    Args:
      question: what is asked.
      truth: the right answer.
      annotator: number of the framing, each of which one person labelled.
      usage: how often habits win, and how often a mistake is made at random.
      rng: source of randomness.
    """
    known = habit(annotator, question.kind)
    slips, follows = rng.random(2) < (usage.wrong, usage.habits)
    if known is not None and known[0] == truth and follows:
        return known[1]
    return choose(rng, [o for o in question.options if o != truth]) if slips else truth
