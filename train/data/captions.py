"""Captions of the tiny language: complete descriptions of a scene at several levels of detail."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from asg_jax.train.data.phrases import (
    NUMBERS,
    OPPOSITE,
    RELATIONS,
    Pick,
    choose,
    parse_noun,
    parse_nouns,
    relates,
)
from asg_jax.train.data.questions import TRAINING, Usage
from asg_jax.train.data.scenes import Item

# The last is held out of everything that trains, as the last wording of a question is.
OPENINGS = ("{}", "an image of {}", "the image shows {}", "you can see {}")
DETAILS = ("shape", "color", "cell", "relation")


@dataclass(frozen=True)
class Group:
    """A number of items of one kind: "two red circles"."""

    count: int
    pick: Pick

    def __str__(self) -> str:
        if self.count == 1:
            return f"a {self.pick.noun}"
        return f"{NUMBERS[self.count]} {self.pick.nouns}"


@dataclass(frozen=True)
class Caption:
    """What a picture shows; there is nothing else in it.

    Attributes:
      groups: all items.
      relation: how the first of two single items stands to the second.
      wording: index into OPENINGS.
    """

    groups: tuple[Group, ...]
    relation: str | None = None
    wording: int = 0

    def __str__(self) -> str:
        link = f" {self.relation} " if self.relation else " and "
        return OPENINGS[self.wording].format(link.join(map(str, self.groups)))

    @property
    def picks(self) -> tuple[Pick, ...]:
        """One pick for each item."""
        return tuple(group.pick for group in self.groups for _ in range(group.count))

    @property
    def held_out(self) -> bool:
        """Whether it names a combination that training never shows."""
        return any(pick.held_out for pick in self.picks)


def holds(caption: Caption, items: Sequence[Item]) -> bool:
    """Whether a caption is true of a scene: it names every item, and nothing that is missing."""
    picks = caption.picks
    if len(picks) != len(items):
        return False
    return any(
        all(item in pick for item, pick in zip(order, picks, strict=True))
        and (caption.relation is None or relates(order[0], caption.relation, order[1]))
        for order in permutations(items)
    )


def describe(
    items: Sequence[Item],
    rng: np.random.Generator,
    details: Sequence[str] = DETAILS,
    usage: Usage = TRAINING,
) -> Caption:
    """A true caption of a scene.

    Args:
      items: what the scene holds.
      rng: source of randomness, which chooses detail, order and opening.
      details: levels of detail to choose from; a relation needs two items, so without them the
        colours are told.
      usage: which openings to use.
    """
    detail, wording = choose(rng, details), usage.wording(rng)
    if detail == "relation" and len(items) == 2:
        return _related(items, rng, wording)
    picks = Counter(_pick(item, detail) for item in items)
    groups = [Group(count, pick) for pick, count in picks.items()]
    return Caption(tuple(groups[n] for n in rng.permutation(len(groups))), None, wording)


def _pick(item: Item, detail: str) -> Pick:
    color = None if detail == "shape" else item.color
    return Pick(color, item.shape, item.cell if detail == "cell" else None)


def _related(items: Sequence[Item], rng: np.random.Generator, wording: int) -> Caption:
    """Two items stand in different cells, so some relation always holds."""
    detail = choose(rng, ("shape", "color"))
    first, second = (items[n] for n in rng.permutation(2))
    relation = choose(rng, (r for r in RELATIONS if relates(first, r, second)))
    groups = Group(1, _pick(first, detail)), Group(1, _pick(second, detail))
    return Caption(groups, relation, wording)


def reworded(caption: Caption, rng: np.random.Generator, usage: Usage = TRAINING) -> Caption:
    """The same in other words: another opening where there is one, another order."""
    openings = [n for n, p in enumerate(usage.wordings) if p > 0 and n != caption.wording]
    wording = choose(rng, openings or [caption.wording])
    if caption.relation:
        return Caption(caption.groups[::-1], OPPOSITE[caption.relation], wording)
    order = rng.permutation(len(caption.groups))
    return Caption(tuple(caption.groups[n] for n in order), None, wording)


def parse_caption(text: str) -> Caption | None:
    """The caption that a text is; None if it is none of the language."""
    text = " ".join(text.split())
    for wording, opening in enumerate(OPENINGS):
        found = re.fullmatch(re.escape(opening).replace(r"\{\}", "(.+)"), text)
        caption = found and _read(found[1], wording)
        if caption is not None:
            return caption
    return None


def _read(body: str, wording: int) -> Caption | None:
    for relation in RELATIONS:
        first, found, second = body.partition(f" {relation} ")
        if found:
            groups = _group(first), _group(second)
            single = all(group is not None and group.count == 1 for group in groups)
            return _caption(groups, relation, wording) if single else None
    return _caption([_group(part) for part in body.split(" and ")], None, wording)


def _caption(groups: Sequence[Group | None], relation: str | None, wording: int) -> Caption | None:
    known = tuple(group for group in groups if group is not None)
    return Caption(known, relation, wording) if len(known) == len(groups) else None


def _group(text: str) -> Group | None:
    number, _, phrase = text.partition(" ")
    if number == "a":
        pick = parse_noun(phrase)
        return pick and Group(1, pick)
    pick = parse_nouns(phrase) if number in NUMBERS[2:] else None
    return pick and Group(NUMBERS.index(number), pick)
