"""The language that the tiny model speaks: what it is told, and what a perfect one would say.

Every text task of the methods is an `Exercise`: the scenes that are shown, an instruction and the
target text. The instructions are those that the tiny model's prompts use at run time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from asg_jax.prompts.scenes import FRAMINGS, INSTRUCTIONS, SCENES
from asg_jax.train.data.annotators import label
from asg_jax.train.data.captions import (
    OPENINGS,
    Caption,
    Group,
    describe,
    holds,
    parse_caption,
    reworded,
)
from asg_jax.train.data.corruptions import CORRUPTIONS, corrupt
from asg_jax.train.data.phrases import NUMBERS, PLURALS, RELATIONS, Pick, choose
from asg_jax.train.data.questions import (
    KINDS,
    OPTIONS,
    TRAINING,
    WORDINGS,
    YES_NO,
    Question,
    Usage,
    answer,
    ask,
    parse_question,
)
from asg_jax.train.data.scenes import CELLS, COLORS, SHAPES, Scene, sample

IMAGES = ("first", "second")
SPEC_PAIRS = 3
OPEN = tuple(kind for kind in KINDS if OPTIONS[kind] != YES_NO)

Pairs = tuple[tuple[Question, str], ...]  # questions and answers


@dataclass(frozen=True)
class Spec:
    """A prompt, and questions whose answers on a picture tell whether it shows the prompt."""

    caption: Caption
    pairs: Pairs

    def __str__(self) -> str:
        return f"prompt: {self.caption}\n{pairs_text(self.pairs)}"


@dataclass(frozen=True)
class Exercise:
    """A text task: pictures of these scenes and the instruction go in, the target comes out."""

    scenes: tuple[Scene, ...]
    instruction: str
    target: str


def pairs_text(pairs: Pairs) -> str:
    """Two lines for each pair: "q: how many circles are there?" and "a: two"."""
    return "\n".join(f"q: {question}\na: {truth}" for question, truth in pairs)


def parse_pairs(text: str) -> Pairs | None:
    """The pairs of a text; None unless every line is what it should be."""
    lines = text.split("\n")
    pairs = [_parse_pair(*lines[n : n + 2]) for n in range(0, len(lines) - 1, 2)]
    known = tuple(pair for pair in pairs if pair is not None)
    return known if 2 * len(known) == len(lines) else None


def _parse_pair(first: str, second: str) -> tuple[Question, str] | None:
    question = parse_question(first.removeprefix("q: ")) if first.startswith("q: ") else None
    truth = second.removeprefix("a: ") if second.startswith("a: ") else ""
    return (question, truth) if question and truth in question.options else None


def parse_spec(text: str) -> Spec | None:
    """The spec that a text is; None if it is none of the language."""
    head, _, rest = text.partition("\n")
    caption = parse_caption(head.removeprefix("prompt: ")) if head.startswith("prompt: ") else None
    pairs = parse_pairs(rest)
    return Spec(caption, pairs) if caption and pairs else None


def make_spec(scene: Scene, rng: np.random.Generator, usage: Usage = TRAINING) -> Spec:
    """A true caption and three questions of different kinds, not all of them for yes or no."""
    questions = [ask(scene.items, rng, OPEN, usage)]
    while len(questions) < SPEC_PAIRS:
        kinds = [kind for kind in KINDS if kind not in {q.kind for q in questions}]
        questions.append(ask(scene.items, rng, kinds, usage))
    order = rng.permutation(SPEC_PAIRS)
    pairs = tuple((questions[n], str(answer(questions[n], scene.items))) for n in order)
    return Spec(describe(scene.items, rng, usage=usage), pairs)


def decompose(caption: Caption, rng: np.random.Generator, usage: Usage = TRAINING) -> Pairs:
    """Questions that check a caption part by part, with the answers it implies."""
    total = sum(group.count for group in caption.groups)
    pairs = [(Question("total", usage.wording(rng)), NUMBERS[total])]
    pairs += [_check(group, caption, usage.wording(rng)) for group in caption.groups]
    if caption.relation:
        first, second = caption.picks
        related = Question("relation", usage.wording(rng), first, second, caption.relation)
        pairs += [(related, "yes")] if first != second else []
    return tuple(pairs)


def _check(group: Group, caption: Caption, wording: int) -> tuple[Question, str]:
    """Asks for the place where one is told and its owner is unique, else for number or presence."""
    pick = Pick(group.pick.color, group.pick.shape)
    twins = [p for p in caption.picks if Pick(p.color, p.shape) == pick]
    if group.pick.cell is not None and len(twins) == 1:
        return Question("position", wording, pick), CELLS[group.pick.cell]
    if len(twins) > 1:
        return Question("count", wording, pick), NUMBERS[len(twins)]
    return Question("exists", wording, pick), "yes"


def false_caption(
    scene: Scene, rng: np.random.Generator, usage: Usage = TRAINING
) -> tuple[Scene, Caption]:
    """A scene with one attribute changed, and a caption that is true of that one only."""
    while True:  # a changed colour needs a caption that tells colours, and so on: draw again
        other = corrupt(scene, choose(rng, CORRUPTIONS), rng, usage.combinations)
        caption = describe(other.items, rng, usage=usage)
        if not holds(caption, scene.items):
            return other, caption


def _answer(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    question = ask(scene.items, rng, usage=usage)
    framing = int(rng.choice(len(FRAMINGS), p=usage.framings))
    told = label(question, str(answer(question, scene.items)), framing, usage, rng)
    return Exercise((scene,), SCENES.frame(str(question))[framing], told)


def _ask(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    return Exercise((scene,), INSTRUCTIONS["ask"], str(ask(scene.items, rng, usage=usage)))


def _caption(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    caption = describe(scene.items, rng, usage=usage)
    return Exercise((scene,), INSTRUCTIONS["caption"], str(caption))


def _spec(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    return Exercise((scene,), INSTRUCTIONS["spec"], str(make_spec(scene, rng, usage)))


def _match(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    truth = choose(rng, YES_NO)
    right = describe(scene.items, rng, usage=usage)
    caption = right if truth == "yes" else false_caption(scene, rng, usage)[1]
    return Exercise((scene,), INSTRUCTIONS["match"].format(caption=caption), truth)


def _write(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    """A prompt out of nothing: the scene is not shown, only told."""
    return Exercise((), INSTRUCTIONS["write"], str(describe(scene.items, rng, usage=usage)))


def _rewrite(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    caption = describe(scene.items, rng, usage=usage)
    told = INSTRUCTIONS["rewrite"].format(caption=caption)
    return Exercise((), told, str(reworded(caption, rng, usage)))


def _decompose(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    """The scene may be left out: the caption says all that is needed."""
    caption = describe(scene.items, rng, usage=usage)
    told = INSTRUCTIONS["decompose"].format(caption=caption)
    return Exercise((scene,), told, pairs_text(decompose(caption, rng, usage)))


def _compare(scene: Scene, rng: np.random.Generator, usage: Usage) -> Exercise:
    """Two pictures that differ in one attribute; the caption is true of one of them."""
    other, caption = false_caption(scene, rng, usage)
    which = int(rng.integers(2))
    scenes = (other, scene) if which == 0 else (scene, other)
    return Exercise(scenes, INSTRUCTIONS["compare"].format(caption=caption), IMAGES[which])


Task = Callable[[Scene, np.random.Generator, Usage], Exercise]
TASKS: dict[str, Task] = {
    "answer": _answer,
    "ask": _ask,
    "caption": _caption,
    "spec": _spec,
    "match": _match,
    "write": _write,
    "rewrite": _rewrite,
    "decompose": _decompose,
    "compare": _compare,
}


def exercise(
    task: str, rng: np.random.Generator, usage: Usage = TRAINING, scene: Scene | None = None
) -> Exercise:
    """A random exercise of one of the TASKS.

    Args:
      task: its name.
      rng: source of randomness.
      usage: the language to use.
      scene: what it is about; a random one without held-out combinations by default.
    """
    return TASKS[task](sample(rng) if scene is None else scene, rng, usage)


def words(text: str) -> list[str]:
    """The words, marks and line ends of a text: the units of the vocabulary."""
    return re.findall(r"[a-z]+|[?:.\n]", text)


def join(units: Iterable[str]) -> str:
    """The text of words; `join(words(text)) == text` for every text of the language."""
    return re.sub(r" ([?:.\n])", r"\1", " ".join(units)).replace("\n ", "\n")


def vocabulary() -> tuple[str, ...]:
    """Every word of the language, in alphabetical order."""
    templates = [*FRAMINGS, *INSTRUCTIONS.values(), *OPENINGS, *sum(WORDINGS.values(), ())]
    terms = [*COLORS, *SHAPES, *PLURALS.values(), *CELLS, *NUMBERS, *RELATIONS, *YES_NO, *IMAGES]
    fixed = ["prompt: q: a:\n", "color shape object objects in the a and"]
    bare = [re.sub(r"\{\w+\}", " ", template) for template in templates]
    return tuple(sorted({word for text in (*bare, *terms, *fixed) for word in words(text)}))
