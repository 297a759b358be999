"""A prompt set like GenEval's for rendered scenes, with an exact judge of the pictures drawn.

Six categories: a single object, two objects, counting, colours, position, colour attribution.
(GenEval, arXiv 2310.11513.) A prompt names all that is to be seen, so that a picture full of
everything satisfies none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asg_jax.train.data.captions import OPENINGS, Caption, Group, holds
from asg_jax.train.data.phrases import RELATIONS, Pick, choose
from asg_jax.train.data.scenes import COMBINATIONS, MAX_ITEMS, SHAPES
from asg_jax.train.evaluate.detector import Detection

STREAM = 100  # of random numbers, apart from those of the scenes


@dataclass(frozen=True)
class PicturePrompt:
    """A request for a picture.

    Attributes:
      category: one of CATEGORIES.
      caption: what to draw; its text is the prompt.
    """

    category: str
    caption: Caption

    def __str__(self) -> str:
        return str(self.caption)

    @property
    def held_out(self) -> bool:
        """Whether it names a combination that training never shows."""
        return self.caption.held_out

    def met(self, detection: Detection) -> bool:
        """Whether a picture shows what was asked for, and nothing else."""
        return detection.unclear == 0 and holds(self.caption, detection.items)


def _single(rng: np.random.Generator) -> Caption:
    return Caption((Group(1, Pick(shape=choose(rng, SHAPES))),))


def _shapes(rng: np.random.Generator) -> tuple[Group, Group]:
    """One each of two different shapes."""
    first, second = rng.choice(SHAPES, 2, replace=False).tolist()
    return Group(1, Pick(shape=first)), Group(1, Pick(shape=second))


def _two(rng: np.random.Generator) -> Caption:
    return Caption(_shapes(rng))


def _counting(rng: np.random.Generator) -> Caption:
    count = int(rng.integers(2, MAX_ITEMS + 1))
    return Caption((Group(count, Pick(shape=choose(rng, SHAPES))),))


def _colored(rng: np.random.Generator) -> Pick:
    shape, color = choose(rng, COMBINATIONS)
    return Pick(color, shape)


def _colors(rng: np.random.Generator) -> Caption:
    return Caption((Group(1, _colored(rng)),))


def _position(rng: np.random.Generator) -> Caption:
    return Caption(_shapes(rng), choose(rng, RELATIONS))


def _attribution(rng: np.random.Generator) -> Caption:
    """Two objects that differ in both, so that colours can go to the wrong one."""
    first = second = _colored(rng)
    while first.color == second.color or first.shape == second.shape:
        second = _colored(rng)
    return Caption((Group(1, first), Group(1, second)))


CATEGORIES: dict[str, Callable[[np.random.Generator], Caption]] = {
    "single": _single,
    "two": _two,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "attribution": _attribution,
}


def prompt_set(seed: int, count: int = 900) -> list[PicturePrompt]:
    """Prompts of every category in turn, in the openings that training uses.

    The n-th depends on the seed and n alone; some occur more than once, because there are only
    four single objects.
    """
    return [_prompt(seed, n) for n in range(count)]


def _prompt(seed: int, n: int) -> PicturePrompt:
    rng = np.random.default_rng([seed, STREAM, n])
    category = list(CATEGORIES)[n % len(CATEGORIES)]
    caption = CATEGORIES[category](rng)
    wording = int(rng.integers(len(OPENINGS) - 1))
    return PicturePrompt(category, Caption(caption.groups, caption.relation, wording))
