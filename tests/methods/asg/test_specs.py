"""Specs are tried again with the reason, and answered by the Solver; every text is scripted."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from asg_jax.backbone import Params
from asg_jax.methods.asg.kit import Kit, Moment
from asg_jax.methods.asg.scribe import REASON
from asg_jax.methods.asg.settings import Lengths
from asg_jax.methods.asg.specs import Spec, majority, reference_rollout, write_specs
from asg_jax.methods.asg.updates import Said
from asg_jax.methods.base import OneDevice
from asg_jax.prompts import ENGLISH
from tests.methods.conftest import SETTINGS, spoken

FEW = "q: what color is it?\na: red"
GOOD = f"{FEW}\nq: how many are there?\na: two"
REQUEST: Any = None


class Letters:
    """A processor that writes a text as its characters."""

    stop_ids = (0,)

    def question(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def text(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


@dataclass(frozen=True, eq=False)
class Scripted(Kit):
    """A model whose words are known before; it writes down what it is told."""

    words: dict[str, list[list[str]]] = field(default_factory=dict)
    told: list[tuple[str, list[str]]] = field(default_factory=list)
    voices: list[Any] = field(default_factory=list)

    def params(self, state, role) -> Params:
        adapter: Any = role
        return Params(self.base, adapter)

    def speak(self, params, sort, moment, texts, temperature, purpose) -> Said:
        self.voices.append(params.adapter)
        row = lambda ids, mask: self.processor.text(ids[mask].tolist())
        self.told.append(
            (sort, [row(*pair) for pair in zip(texts.ids[0], texts.mask[0], strict=True)])
        )
        said = self.words[sort].pop(0)
        ids = np.full((1, len(said), 99), -1)
        for n, text in enumerate(said):
            ids[0, n, : len(text)] = [ord(letter) for letter in text]
        return Said(REQUEST, texts, spoken(ids))


def kit(specs: list[str], answers: list[list[str]]) -> Scripted:
    settings = replace(SETTINGS, retries=2, lengths=Lengths(300, 99, 300, 999))
    words = {"spec": [[text] for text in specs], "answer": answers}
    processor: Any = Letters()
    backbone: Any = None
    program = lambda rollout: rollout
    return Scripted(backbone, None, processor, ENGLISH, settings, OneDevice(), program, words=words)


def write(scripted: Scripted, caption: str | None = "a cat") -> Spec:
    state: Any = None
    return write_specs(scripted, state, Moment(0, 1, (5,), REQUEST), [caption])[0]


RED_TWO = ["red", "blue", "red", "2", "3", "two"]


@pytest.mark.parametrize(("judge", "voice"), [("live", "solver"), ("frozen", None)])
def test_the_judge_gives_the_references(judge, voice) -> None:
    known = kit([GOOD], [RED_TWO])
    scripted = replace(known, settings=replace(known.settings, judge=judge))
    write(scripted)
    assert scripted.voices == ["proposer", voice]


def test_the_solvers_majority_answers_are_the_references() -> None:
    spec = write(kit([GOOD], [RED_TWO]))
    assert spec.accepted and spec.attempts == 1 and spec.reason == ""
    assert spec.questions == ("what color is it?", "how many are there?")
    assert spec.references == ("red", "2")
    assert spec.tokens == (tuple(map(ord, "red")), (ord("2"),))


def test_each_question_is_asked_in_every_framing() -> None:
    scripted = kit([GOOD], [RED_TWO])
    write(scripted)
    sort, told = scripted.told[-1]
    first, second = "what color is it?", "how many are there?"
    assert sort == "answer"
    assert told == [*ENGLISH.frame(first)[:3], *ENGLISH.frame(second)[:3]]


@pytest.mark.parametrize("text", [FEW, "a cat", "q: is it red\na: yes"])
def test_a_rejected_spec_is_tried_again_with_the_reason(text: str) -> None:
    scripted = kit([text, GOOD], [RED_TWO, RED_TWO])
    spec = write(scripted)
    assert spec.accepted and spec.attempts == 2
    first, second = (told[0] for sort, told in scripted.told if sort == "spec")
    assert "rejected" not in first
    assert f"rejected, because {REASON}" in second


def test_after_the_last_attempt_a_spec_stays_rejected() -> None:
    spec = write(kit([FEW] * 3, [RED_TWO] * 3))
    assert not spec.accepted and spec.attempts == 3 and spec.reason == REASON


def test_without_a_caption_there_is_nothing_to_ask_or_to_try_again() -> None:
    scripted = kit([GOOD], [RED_TWO])
    spec = write(scripted, caption=None)
    assert not spec.accepted and spec.questions == () and len(scripted.told) == 2


def test_a_question_that_comes_twice_counts_once() -> None:
    twice = f"{FEW}\nq: What color is it?\na: blue\nq: how many are there?\na: two"
    spec = write(kit([twice, GOOD], [["red"] * 6, RED_TWO]))
    assert spec.attempts == 2  # only M = 2 questions are taken, and they are the same


def test_classes_that_mean_the_same_vote_together() -> None:
    assert majority("how many cups are there?", ["3", "two", "2 cups", "4"]) == 1
    assert majority("what color is it?", ["red", "blue"]) == 0


def test_reference_answers_become_rollouts() -> None:
    rollout = reference_rollout([Spec(tokens=((4, 5, 1), (6, 1))), Spec()], 2, 3)
    assert rollout.ids.tolist() == [[[4, 5, 1], [6, 1, 0]], [[0] * 3] * 2]
    assert rollout.mask.sum(-1).tolist() == [[3, 2], [0, 0]]
