"""What the roles are told can be said, and what they say can be read back."""

import numpy as np
import pytest

from asg_jax.answers import is_objective_question
from asg_jax.prompts import ENGLISH, LANGUAGES, SCENES
from asg_jax.train.data import grammar

languages = pytest.mark.parametrize("language", LANGUAGES.values(), ids=list(LANGUAGES))


@languages
def test_every_framing_is_another_wording_around_the_unchanged_question(language) -> None:
    question = "how many {red} circles are there?"
    framed = language.frame(question)
    assert len(set(framed)) == len(framed) == 7
    assert all(question in text for text in framed)


@languages
def test_the_check_holds_the_caption_unchanged(language) -> None:
    caption = 'a "red" {circle} and 100% blue'
    assert caption in language.check(caption)
    assert caption in language.check(caption, "it was too short")


def test_a_second_try_is_told_why_the_first_was_rejected() -> None:
    assert "it was too short" in ENGLISH.check("a cat", "it was too short")
    assert "rejected" not in ENGLISH.check("a cat")


@languages
@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("what color is the circle?", "what color is the circle?"),
        ("Sure!\n1. How many cups are there?", "How many cups are there?"),
        ("<question>which cup is red?</question>", "which cup is red?"),
        ("a red circle", None),
        ("", None),
    ],
)
def test_questions_are_read(language, text: str, question: str | None) -> None:
    assert language.question(text) == question


@languages
@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("a red circle", "a red circle"),
        ('\n Caption: "A cat on a mat."\nIt sleeps.', "A cat on a mat."),
        (" \n", None),
        ('""', None),
    ],
)
def test_captions_are_read(language, text: str, caption: str | None) -> None:
    assert language.caption(text) == caption


@languages
@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        (
            "q: is it red?\na: yes\nq: how many?\na: two cups",
            [("is it red?", "yes"), ("how many?", "two cups")],
        ),
        (
            "Q1: Is it  red ?\nA1: yes.\n\nQuestion 2) How many?\nAnswer 2) two",
            [("Is it red?", "yes."), ("How many?", "two")],
        ),
        ("q: is it red?\nq: is it blue?\na: no", [("is it blue?", "no")]),
        ("q: is it red\na: yes", []),
        ("q: is it red?\na:", []),
        ("a: yes\nq: is it red?", []),
    ],
)
def test_complete_pairs_are_read(language, text: str, pairs: list[tuple[str, str]]) -> None:
    assert language.spec(text) == pairs


def test_the_form_that_the_english_check_asks_for_is_the_one_that_is_read() -> None:
    form = ENGLISH.check("a cat").split("of this form:\n")[1]
    assert [q for q, _ in ENGLISH.spec(form)] == [
        "first question?",
        "second question?",
        "third question?",
    ]


def test_scenes_read_everything_that_the_grammar_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        checked = grammar.exercise("decompose", rng)
        lines = checked.target.split("\n")
        pairs = [
            (q.removeprefix("q: "), a.removeprefix("a: "))
            for q, a in zip(lines[::2], lines[1::2], strict=True)
        ]
        assert SCENES.spec(checked.target) == pairs
        asked = grammar.exercise("ask", rng).target
        assert SCENES.question(asked) == asked and is_objective_question(asked)
        described = grammar.exercise("caption", rng).target
        assert SCENES.caption(described) == described


def test_scenes_instruct_as_the_tiny_model_was_trained() -> None:
    rng = np.random.default_rng(0)
    assert grammar.exercise("ask", rng).instruction == SCENES.ask
    assert grammar.exercise("caption", rng).instruction == SCENES.describe
    told = grammar.exercise("decompose", rng).instruction
    assert told == SCENES.check(told.removeprefix("write questions on this: "))
    known = set(grammar.vocabulary())
    assert set(grammar.words(" ".join([*SCENES.frame(""), SCENES.ask, SCENES.describe]))) <= known
