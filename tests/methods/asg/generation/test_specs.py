"""Specs are tried again with the reason, and answered by the Solver; every text is scripted."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from asg_jax.backbone import Params
from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.method import Examples
from asg_jax.engine.placement import OneDevice
from asg_jax.methods.asg.generation.specs import QASpec, reference_texts, write_specs
from asg_jax.objectives.texts import Said
from asg_jax.prompts import ENGLISH
from asg_jax.prompts.language import REASON
from tests.methods.asg.generation.letters import LENGTHS, lettered
from tests.tiny import SETTINGS, spoken

FEW = "q: what color is it?\na: red"
GOOD = f"{FEW}\nq: how many are there?\na: two"
REQUEST: Any = None


ROOMY = replace(SETTINGS, retries=2, lengths=LENGTHS)


@dataclass(frozen=True, eq=False)
class Scripted(Engine):
    """A model whose words are known before; it writes down what it is told."""

    words: list[list[str]] = field(default_factory=list)
    told: list[list[str]] = field(default_factory=list)
    voices: list[Any] = field(default_factory=list)

    def params(self, state, role) -> Params:
        adapter: Any = role
        return Params(self.model.base, adapter)

    def continue_texts(self, params, tokens, moment, texts, temperature, purpose) -> Said:
        self.voices.append(params.adapter)
        row = lambda ids, mask: self.model.processor.text(ids[mask].tolist())
        self.told.append([row(*pair) for pair in zip(texts.ids[0], texts.mask[0], strict=True)])
        said = self.words.pop(0)
        ids = np.full((1, len(said), 99), -1)
        for n, text in enumerate(said):
            ids[0, n, : len(text)] = [ord(letter) for letter in text]
        return Said(REQUEST, texts, spoken(ids))


def engine(specs: list[str], answers: list[str]) -> Scripted:
    return Scripted(lettered(), ENGLISH, LENGTHS, OneDevice(), words=[specs, answers])


def write(scripted: Scripted, caption: str | None = "a cat", judge: Any = "live") -> QASpec:
    state: Any = None
    moment = Moment(Examples(0, 1, (5,), (0,), REQUEST), REQUEST, REQUEST)
    return write_specs(scripted, replace(ROOMY, judge=judge), state, moment, [caption])[0]


RED_TWO = ["red", "blue", "red", "2", "3", "two"]


@pytest.mark.parametrize(("judge", "voice"), [("live", "solver"), ("frozen", None)])
def test_the_judge_gives_the_references(judge, voice) -> None:
    scripted = engine([GOOD] * 3, RED_TWO)
    write(scripted, judge=judge)
    assert scripted.voices == ["proposer", voice]


def test_the_majority_answers_are_the_references() -> None:
    spec = write(engine([GOOD] * 3, RED_TWO))
    assert spec.accepted and spec.attempt == 1
    assert spec.questions == ("what color is it?", "how many are there?")
    assert spec.references == ("red", "2")
    assert spec.tokens == (tuple(map(ord, "red")), (ord("2"),))


def test_the_tokens_are_those_of_the_answer_that_won() -> None:
    spec = write(engine([GOOD] * 3, ["blue", "red", "red", "3", "2", "2"]))
    assert spec.references == ("red", "2")
    assert spec.tokens == (tuple(map(ord, "red")), (ord("2"),))


def test_each_question_is_asked_in_every_framing() -> None:
    scripted = engine([GOOD] * 3, RED_TWO)
    write(scripted)
    first, second = "what color is it?", "how many are there?"
    assert scripted.told[-1] == [*ENGLISH.frame(first)[:3], *ENGLISH.frame(second)[:3]]


@pytest.mark.parametrize("text", [FEW, "a cat", "q: is it red\na: yes"])
def test_the_first_attempt_with_enough_questions_is_taken(text: str) -> None:
    scripted = engine([text, GOOD, text], RED_TWO)
    spec = write(scripted)
    assert spec.accepted and spec.attempt == 2
    first, *others = scripted.told[0]
    assert "rejected" not in first and len(others) == 2
    assert all(f"rejected, because {REASON}" in other for other in others)


def test_without_enough_questions_a_spec_stays_rejected() -> None:
    spec = write(engine(["a cat", FEW, "a dog"], RED_TWO))
    assert not spec.accepted and spec.attempt == 2 and spec.questions == ("what color is it?",)


def test_without_a_caption_there_is_nothing_to_ask() -> None:
    spec = write(engine([GOOD] * 3, RED_TWO), caption=None)
    assert not spec.accepted and spec.questions == () and spec.attempt == 0


def test_a_question_that_comes_twice_counts_once() -> None:
    twice = f"{FEW}\nq: What color is it?\na: blue\nq: how many are there?\na: two"
    spec = write(engine([twice, GOOD, FEW], RED_TWO))
    assert spec.attempt == 2  # only M = 2 questions are taken, and they are the same


def test_reference_answers_become_texts() -> None:
    texts = reference_texts([QASpec(tokens=((4, 5, 1), (6, 1))), QASpec()], 2, 3)
    assert texts.ids.tolist() == [[[4, 5, 1], [6, 1, 0]], [[0] * 3] * 2]
    assert texts.mask.sum(-1).tolist() == [[3, 2], [0, 0]]
