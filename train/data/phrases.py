"""Noun phrases of the tiny language: which items they mean, and reading them back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from asg_jax.train.data.scenes import CELLS, COLORS, HELD_OUT, SHAPES, Item

T = TypeVar("T")

NUMBERS = ("zero", "one", "two", "three")
PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
SINGULARS = {plural: shape for shape, plural in PLURALS.items()}
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE: dict[str, str] = dict(
    zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True)
)


@dataclass(frozen=True)
class Pick:
    """Items with certain attributes; None leaves one open. No attribute: any item."""

    color: str | None = None
    shape: str | None = None
    cell: int | None = None

    def __contains__(self, item: Item) -> bool:
        return all(
            getattr(self, field.name) in (None, getattr(item, field.name)) for field in fields(self)
        )

    def among(self, items: Iterable[Item]) -> list[Item]:
        """The items that are meant."""
        return [item for item in items if item in self]

    def only(self, items: Iterable[Item]) -> Item | None:
        """The one item that is meant; None if there is none or more than one."""
        found = self.among(items)
        return found[0] if len(found) == 1 else None

    @property
    def held_out(self) -> bool:
        """Whether it names a combination that training never shows."""
        return (self.shape, self.color) in HELD_OUT

    @property
    def noun(self) -> str:
        """ "red circle", "object in the top left"."""
        return self._words(self.shape or "object")

    @property
    def nouns(self) -> str:
        """The plural."""
        return self._words(PLURALS[self.shape] if self.shape else "objects")

    def _words(self, noun: str) -> str:
        words = noun if self.color is None else f"{self.color} {noun}"
        return words if self.cell is None else f"{words} in the {CELLS[self.cell]}"


_PHRASE = r"(?:({colors}) )?({nouns})(?: in the ({cells}))?"


def _pattern(nouns: Iterable[str]) -> re.Pattern[str]:
    options = {"colors": "|".join(COLORS), "nouns": "|".join(nouns), "cells": "|".join(CELLS)}
    return re.compile(_PHRASE.format(**options))


_NOUN, _NOUNS = _pattern((*SHAPES, "object")), _pattern((*SINGULARS, "objects"))


def parse_noun(text: str) -> Pick | None:
    """The pick of a singular phrase."""
    found = _NOUN.fullmatch(text)
    return found and _pick(found[1], found[2], found[3])


def parse_nouns(text: str) -> Pick | None:
    """The pick of a plural phrase."""
    found = _NOUNS.fullmatch(text)
    return found and _pick(found[1], SINGULARS.get(found[2], "object"), found[3])


def _pick(color: str | None, noun: str, cell: str | None) -> Pick:
    return Pick(color, None if noun == "object" else noun, CELLS.index(cell) if cell else None)


def relates(first: Item, relation: str, second: Item) -> bool:
    """Whether one item stands left of (right of, above, below) another: by cells, not by pixels."""
    return {
        "left of": first.column < second.column,
        "right of": first.column > second.column,
        "above": first.row < second.row,
        "below": first.row > second.row,
    }[relation]


def choose(rng: np.random.Generator, options: Iterable[T]) -> T:
    """One of the options, all equally likely."""
    several = list(options)
    return several[int(rng.integers(len(several)))]
