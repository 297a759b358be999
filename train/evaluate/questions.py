"""The question set: several questions about each of many scenes, of a stream of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from asg_jax.train.data.questions import (
    EVALUATION,
    HELD_OUT_WORDING,
    KINDS,
    Question,
    Usage,
    answer,
    ask,
)
from asg_jax.train.data.scenes import TRAINED, Scene, generator, render, sample

STREAM = 101  # of random numbers, apart from those of the data sets and of the prompts
HELD_OUT_EVERY = 4  # one scene of so many shows a held-out combination
TRAINED_ONLY = replace(EVALUATION, combinations=TRAINED)


@dataclass(frozen=True)
class QuestionItem:
    """A question about a picture, and its true answer.

    Attributes:
      picture: number of the picture in its set.
      question: any kind and wording.
      truth: the answer.
      held_out: whether the picture shows a combination that training never does; in the others
        the question names none either.
    """

    picture: int
    question: Question
    truth: str
    held_out: bool

    @property
    def unseen(self) -> bool:
        """Whether training never words a question like this."""
        return self.question.wording == HELD_OUT_WORDING


class QuestionSet(NamedTuple):
    """Pictures, and equally many questions about each, in the order of the pictures."""

    pictures: UInt8[np.ndarray, "N 32 32 3"]
    items: tuple[QuestionItem, ...]


@lru_cache(maxsize=4)
def question_set(seed: int, count: int = 3200, per_picture: int = 4) -> QuestionSet:
    """Questions of all kinds equally often, as far as the scenes allow, in all wordings.

    A smaller set of the same seed is the beginning of a larger one.

    Args:
      seed: gives scenes and questions.
      count: how many; a multiple of `per_picture`.
      per_picture: questions about one picture, at most 6, all of different kinds.
    """
    pictures, items = [], []
    asked: Counter[str] = Counter()
    for number in range(count // per_picture):
        rng = generator(seed, number, STREAM)
        held_out = number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        scene = sample(rng, held_out)
        pictures.append(render(scene, rng))
        usage = EVALUATION if held_out else TRAINED_ONLY
        for question in islice(_questions(scene, rng, asked, usage), per_picture):
            items.append(
                QuestionItem(number, question, str(answer(question, scene.items)), held_out)
            )
            asked[question.kind] += 1
    return QuestionSet(np.stack(pictures), tuple(items))


def _questions(
    scene: Scene, rng: np.random.Generator, asked: Counter[str], usage: Usage
) -> Iterator[Question]:
    """A question of every kind that suits the scene; the kind that was asked least comes first."""
    kinds: Sequence[str] = rng.permutation(np.array(KINDS)).tolist()
    for kind in sorted(kinds, key=asked.__getitem__):
        with suppress(ValueError):  # the scene does not suit the kind
            yield ask(scene.items, rng, (kind,), usage)
