"""Questions of the tiny language: how they are worded, asked, answered and read back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from asg_jax.train.data.phrases import (
    NUMBERS,
    RELATIONS,
    Pick,
    choose,
    parse_noun,
    parse_nouns,
    relates,
)
from asg_jax.train.data.scenes import (
    CELLS,
    COLORS,
    COMBINATIONS,
    SHAPES,
    TRAINED,
    Combination,
    Item,
)

# Wordings by kind; the last of each is held out of everything that trains, though its words are
# not. Every one passes the objective test of questions; the yes/no kinds avoid the words that
# make a question one for a number ("count", "number of").
WORDINGS = {
    "total": (
        "how many objects are there?",
        "what is the total number of objects?",
        "how many objects can you see?",
        "how many objects are in the image?",
    ),
    "count": (
        "how many {xs} are there?",
        "what is the number of {xs}?",
        "how many {xs} can you see?",
        "how many {xs} are in the image?",
    ),
    "color": (
        "what color is the {x}?",
        "what is the color of the {x}?",
        "which color does the {x} have?",
        "which color is the {x}?",
    ),
    "shape": (
        "what shape is the {x}?",
        "what is the shape of the {x}?",
        "which shape does the {x} have?",
        "which shape is the {x}?",
    ),
    "exists": (
        "is there a {x} in any position?",
        "does any position have a {x}?",
        "can you see a {x} in any position?",
        "does the image show a {x} in any position?",
    ),
    "position": (
        "what is the position of the {x}?",
        "which position does the {x} have?",
        "which position is the {x} in?",
        "what position does the {x} have?",
    ),
    "relation": (
        "is the {x} {value} the {y}?",
        "can you see the {x} {value} the {y}?",
        "does the image show the {x} {value} the {y}?",
        "is there a {x} {value} the {y}?",
    ),
    "compare": (
        "are there more {xs} than {ys} in total?",
        "can you see more {xs} than {ys} in total?",
        "does the image show more {xs} than {ys} in total?",
        "are more {xs} than {ys} in the total image?",
    ),
    "attribute": (
        "is the {part} of the {x} {value}?",
        "does the {x} have the {part} {value}?",
        "is {value} the {part} of the {x}?",
        "can you see the {part} {value} of the {x}?",
    ),
}
KINDS = tuple(WORDINGS)
HELD_OUT_WORDING = 3  # index, of every kind
YES_NO = ("yes", "no")
OPTIONS = {
    "total": NUMBERS,
    "count": NUMBERS,
    "color": COLORS,
    "shape": SHAPES,
    "position": CELLS,
    **dict.fromkeys(("exists", "relation", "compare", "attribute"), YES_NO),
}
BALANCED = ("count", "exists", "relation", "compare", "attribute")  # the answer is drawn first
TRIES = 48  # draws of one kind before a scene counts as unfit for it


@dataclass(frozen=True)
class Question:
    """What is asked, and in which words.

    Attributes:
      kind: one of KINDS.
      wording: index into the wordings of the kind.
      x: the items that it is about.
      y: the items that they are compared with ('relation', 'compare').
      value: the relation, or the colour or shape that `x` may have ('attribute').
    """

    kind: str
    wording: int = 0
    x: Pick = field(default_factory=Pick)
    y: Pick = field(default_factory=Pick)
    value: str = ""

    def __str__(self) -> str:
        slots = {"x": self.x.noun, "xs": self.x.nouns, "y": self.y.noun, "ys": self.y.nouns}
        template = WORDINGS[self.kind][self.wording]
        return template.format(**slots, value=self.value, part=_part(self.value))

    @property
    def options(self) -> tuple[str, ...]:
        """All answers that its kind allows."""
        return OPTIONS[self.kind]


@dataclass(frozen=True)
class Usage:
    """How a speaker uses the language.

    Attributes:
      wordings: probability of each wording of a kind.
      combinations: shapes and colours that may be named together.
      framings: probability of each instruction around a question; all alike if there are none.
      wrong: share of the answers that are another of the kind's options, at random.
      habits: how often annotators follow their habits (`annotators.habit`).
    """

    wordings: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3, 0.0)
    combinations: tuple[Combination, ...] = TRAINED
    framings: tuple[float, ...] | None = None
    wrong: float = 0.0
    habits: float = 0.0

    def wording(self, rng: np.random.Generator) -> int:
        """A random wording."""
        return int(rng.choice(len(self.wordings), p=self.wordings))


TRAINING = Usage()
EVALUATION = Usage((0.25, 0.25, 0.25, 0.25), COMBINATIONS)


def _part(value: str) -> str:
    return "color" if value in COLORS else "shape"


def _yes(truth: bool) -> str:
    return YES_NO[0] if truth else YES_NO[1]


def answer(question: Question, items: Sequence[Item]) -> str | None:
    """The true answer in a scene; None where the question has none, or none that is unique."""
    one, other, number = question.x.only(items), question.y.only(items), question.x.among(items)
    match question.kind:
        case "total":
            return NUMBERS[len(items)]
        case "count":
            return NUMBERS[len(number)]
        case "exists":
            return _yes(bool(number))
        case "compare":
            return _yes(len(number) > len(question.y.among(items)))
    if one is None:
        return None
    match question.kind:
        case "position":
            return CELLS[one.cell]
        case "attribute":
            return _yes(question.value in (one.color, one.shape))
        case "relation":
            if other is None or other == one:
                return None
            return _yes(relates(one, question.value, other))
    return one.color if question.kind == "color" else one.shape


def ask(
    items: Sequence[Item],
    rng: np.random.Generator,
    kinds: Sequence[str] = KINDS,
    usage: Usage = TRAINING,
) -> Question:
    """A random question with a unique answer in a scene.

    Yes and no, and the numbers, are equally likely answers, as far as the scene allows.

    Args:
      items: what the scene holds.
      rng: source of randomness.
      kinds: one of them is asked for, each equally likely if the scene suits it.
      usage: the wordings and combinations to use.

    Raises:
      ValueError: the scene suits none of the kinds.
    """
    for kind in rng.permutation(np.array(kinds)).tolist():
        question = _ask(kind, items, rng, usage)
        if question is not None:
            return question
    raise ValueError(f"a scene of {len(items)} items suits no question of the kinds {kinds}")


def _ask(
    kind: str, items: Sequence[Item], rng: np.random.Generator, usage: Usage
) -> Question | None:
    wording, wanted = usage.wording(rng), choose(rng, OPTIONS[kind])
    question = None
    for _ in range(TRIES):
        x, y, value = DRAWS[kind](items, rng, usage.combinations)
        drawn = Question(kind, wording, x, y, value)
        truth = answer(drawn, items)
        if truth is not None and (truth == wanted or kind not in BALANCED):
            return drawn
        if truth is not None and kind == "count":  # few scenes show three of anything
            question = drawn
    return question


def describe_by(item: Item | Combination, rng: np.random.Generator) -> Pick:
    """A pick by colour, by shape or by both."""
    shape, color = (item.shape, item.color) if isinstance(item, Item) else item
    return choose(rng, (Pick(color=color), Pick(shape=shape), Pick(color, shape)))


def _some(items: Sequence[Item], rng: np.random.Generator, pool: Sequence[Combination]) -> Pick:
    """Something that the scene shows, or anything, with even chances."""
    return describe_by(choose(rng, items if rng.random() < 0.5 else pool), rng)


Drawn = tuple[Pick, Pick, str]  # x, y, value
Draw = Callable[[Sequence[Item], np.random.Generator, Sequence[Combination]], Drawn]


def _color(items: Sequence[Item], rng: np.random.Generator, _: object) -> Drawn:
    item = choose(rng, items)
    return (Pick(cell=item.cell) if rng.random() < 0.25 else Pick(shape=item.shape)), Pick(), ""


def _shape(items: Sequence[Item], rng: np.random.Generator, _: object) -> Drawn:
    item = choose(rng, items)
    return (Pick(cell=item.cell) if rng.random() < 0.25 else Pick(color=item.color)), Pick(), ""


def _position(items: Sequence[Item], rng: np.random.Generator, _: object) -> Drawn:
    return describe_by(choose(rng, items), rng), Pick(), ""


def _relation(items: Sequence[Item], rng: np.random.Generator, _: object) -> Drawn:
    first, second = choose(rng, items), choose(rng, items)
    return describe_by(first, rng), describe_by(second, rng), choose(rng, RELATIONS)


def _exists(items: Sequence[Item], rng: np.random.Generator, pool: Sequence[Combination]) -> Drawn:
    return _some(items, rng, pool), Pick(), ""


def _compare(items: Sequence[Item], rng: np.random.Generator, pool: Sequence[Combination]) -> Drawn:
    x = y = _some(items, rng, pool)
    while x == y:
        y = _some(items, rng, pool)
    return x, y, ""


def _attribute(
    items: Sequence[Item], rng: np.random.Generator, pool: Sequence[Combination]
) -> Drawn:
    """The value makes an allowed combination with the item, also where it is not the item's."""
    item = choose(rng, items)
    if rng.random() < 0.5:
        x, values = Pick(shape=item.shape), {color for shape, color in pool if shape == item.shape}
    else:
        x, values = Pick(color=item.color), {shape for shape, color in pool if color == item.color}
    own = item.color if x.shape else item.shape
    value = own if rng.random() < 0.5 else choose(rng, sorted(values))
    return (Pick(cell=item.cell) if rng.random() < 0.25 else x), Pick(), value


DRAWS: dict[str, Draw] = {
    "total": lambda *_: (Pick(), Pick(), ""),
    "count": _exists,
    "color": _color,
    "shape": _shape,
    "exists": _exists,
    "position": _position,
    "relation": _relation,
    "compare": _compare,
    "attribute": _attribute,
}


def _pattern(template: str) -> re.Pattern[str]:
    """Matches what a template makes; relations, colours, shapes and parts are closed classes."""
    closed = {"value": "|".join((*RELATIONS, *COLORS, *SHAPES)), "part": "color|shape"}
    pieces = re.split(r"\{(\w+)\}", template)
    groups = [f"(?P<{name}>{closed.get(name, '.+?')})" for name in pieces[1::2]]
    texts = [re.escape(text) for text in pieces[0::2]]
    return re.compile("".join(sum(zip(texts, [*groups, ""], strict=True), ())))


PATTERNS = {
    (kind, wording): _pattern(template)
    for kind, templates in WORDINGS.items()
    for wording, template in enumerate(templates)
}


def parse_question(text: str) -> Question | None:
    """The question that a text asks; None if it is none of the language."""
    text = " ".join(text.split())
    for (kind, wording), pattern in PATTERNS.items():
        found = pattern.fullmatch(text)
        question = found and _read(kind, wording, found.groupdict())
        # What is read must say the same again: "the part of" has one part for every value.
        if question is not None and str(question) == text:
            return question
    return None


def _read(kind: str, wording: int, slots: dict[str, str]) -> Question | None:
    readers = {"x": parse_noun, "y": parse_noun, "xs": parse_nouns, "ys": parse_nouns}
    picks = {name[0]: readers[name](text) for name, text in slots.items() if name in readers}
    if None in picks.values() or picks.get("x") == Pick():
        return None
    x, y = (picks.get(name) or Pick() for name in ("x", "y"))
    return Question(kind, wording, x, y, slots.get("value", ""))
