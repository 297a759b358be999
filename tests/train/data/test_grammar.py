"""The language: true answers, the question filter, round trips, what training never says."""

from collections import Counter

import numpy as np
import pytest

from asg_jax.answers import judge_questions, normalize_answer, question_kind, vote_label
from asg_jax.prompts import SCENES
from asg_jax.train.data import grammar
from asg_jax.train.data.captions import OPENINGS, describe, holds, parse_caption, reworded
from asg_jax.train.data.phrases import Pick
from asg_jax.train.data.questions import (
    EVALUATION,
    HELD_OUT_WORDING,
    KINDS,
    TRAINING,
    WORDINGS,
    YES_NO,
    Question,
    answer,
    ask,
    parse_question,
)
from asg_jax.train.data.scenes import HELD_OUT, Item, generator, sample

SEED = 91
ITEMS = (Item("circle", "red", 0), Item("circle", "blue", 1), Item("square", "red", 2))
TRUTHS = [
    ("how many objects are there?", "three"),
    ("how many circles are there?", "two"),
    ("what is the number of red objects?", "two"),
    ("how many green crosses can you see?", "zero"),
    ("what color is the square?", "red"),
    ("what color is the circle?", None),  # there are two
    ("what is the color of the object in the top right?", "blue"),
    ("which shape does the blue object have?", "circle"),
    ("what shape is the object in the bottom right?", None),  # there is none
    ("is there a blue square in any position?", "no"),
    ("does any position have a red square?", "yes"),
    ("which position does the blue circle have?", "top right"),
    ("is the red circle left of the blue object?", "yes"),
    ("can you see the square above the red circle?", "no"),
    ("does the image show the square below the red circle?", "yes"),
    ("is the square left of the square?", None),
    ("are there more circles than red objects in total?", "no"),
    ("can you see more red objects than squares in total?", "yes"),
    ("is the color of the square red?", "yes"),
    ("does the blue object have the shape square?", "no"),
]
NONSENSE = [
    "",
    "how many are there?",
    "how many red are there?",
    "what color is the circles?",
    "how many circle are there?",
    "is the shape of the circle red?",
    "is the circle near the square?",
    "how many objects are there? yes",
    "a red",
    "one red circle",
    "a circle and",
    "two circles left of a square",
    "a circle left of a square and a cross",
]


def draws(count: int = 3000):
    """Scenes, generators and usages: every other one of evaluation, with held-out combinations."""
    for n in range(count):
        rng = generator(SEED, n)
        yield sample(rng, held_out=n % 2 == 1), rng, (TRAINING, EVALUATION)[n % 2]


@pytest.mark.parametrize(("text", "truth"), TRUTHS)
def test_true_answers(text: str, truth: str | None) -> None:
    question = parse_question(text)
    assert question is not None and str(question) == text
    assert answer(question, ITEMS) == truth


@pytest.mark.parametrize("text", NONSENSE)
def test_what_is_not_of_the_language_is_not_read(text: str) -> None:
    assert parse_question(text) is None and parse_caption(text) is None


def test_questions_pass_the_filter_and_their_answers_the_normalisation() -> None:
    asked = Counter()
    for scene, rng, usage in draws():
        question = ask(scene.items, rng, usage=usage)
        text, truth = str(question), answer(question, scene.items)
        assert truth in question.options and normalize_answer(truth) == truth
        assert parse_question(text) == question
        assert judge_questions([text])[0].accepted, text
        assert not vote_label(text, truth).noncanonical
        kinds = {"count": "count", "total": "count"}
        expected = "binary" if question.options == YES_NO else kinds.get(question.kind, "open")
        assert question_kind(text) == expected, text
        asked[question.kind, question.wording] += 1
    assert set(asked) == {(kind, n) for kind in KINDS for n in range(4)}


def test_yes_and_no_are_equally_likely() -> None:
    for kind in ("exists", "relation", "compare", "attribute"):
        truths = Counter()
        for scene, rng, _ in draws(1200):
            if len(scene.items) > 1:
                question = ask(scene.items, rng, (kind, "total"))
                truths[answer(question, scene.items)] += question.kind == kind
        assert abs(truths["yes"] / (truths["yes"] + truths["no"]) - 0.5) < 0.08, kind


def test_captions_are_true_complete_and_read_back() -> None:
    for scene, rng, usage in draws():
        caption = describe(scene.items, rng, usage=usage)
        assert holds(caption, scene.items) and parse_caption(str(caption)) == caption
        again = reworded(caption, rng, usage)
        assert holds(again, scene.items) and str(again) != str(caption)
        assert not holds(caption, scene.items[1:])
        assert not holds(caption, (*scene.items, scene.items[0]))


def test_false_captions_are_false_and_true_of_the_other_scene() -> None:
    for scene, rng, usage in draws(600):
        other, caption = grammar.false_caption(scene, rng, usage)
        assert holds(caption, other.items) and not holds(caption, scene.items)


def test_specs_are_true_and_read_back() -> None:
    for scene, rng, usage in draws(600):
        spec = grammar.make_spec(scene, rng, usage)
        assert grammar.parse_spec(str(spec)) == spec
        assert len({question.kind for question, _ in spec.pairs}) == grammar.SPEC_PAIRS
        assert any(truth not in YES_NO for _, truth in spec.pairs)
        assert all(answer(question, scene.items) == truth for question, truth in spec.pairs)


@pytest.mark.parametrize(
    "text", ["", "prompt: a circle", "prompt: a circle\nq: how many objects are there?", "q: a:"]
)
def test_broken_specs_are_not_read(text: str) -> None:
    assert grammar.parse_spec(text) is None


def test_a_decomposition_is_true_of_every_scene_that_the_caption_describes() -> None:
    for scene, rng, usage in draws(1000):
        caption = describe(scene.items, rng, usage=usage)
        pairs = grammar.decompose(caption, rng, usage)
        assert grammar.parse_pairs(grammar.pairs_text(pairs)) == pairs
        assert all(answer(question, scene.items) == truth for question, truth in pairs)


@pytest.mark.parametrize("task", grammar.TASKS)
def test_exercises_stay_in_the_vocabulary_and_avoid_what_is_held_out(task: str) -> None:
    known = set(grammar.vocabulary())
    pairs = [(f"{color} {shape}", f"{color} {shape}s") for shape, color in HELD_OUT]
    openings = OPENINGS[HELD_OUT_WORDING].format("")
    for n in range(400):
        work = grammar.exercise(task, generator(SEED, n))
        text = f"{work.instruction}\n{work.target}"
        assert grammar.join(grammar.words(text)) == text
        assert set(grammar.words(text)) <= known
        assert not any(phrase in text for pair in pairs for phrase in pair) and openings not in text
        for part in (work.target, work.target.partition("q: ")[2].partition("\n")[0]):
            question = parse_question(part)
            assert question is None or question.wording != HELD_OUT_WORDING
        for scene in work.scenes:
            assert not {(i.shape, i.color) for i in scene.items} & set(HELD_OUT)
        assert work == grammar.exercise(task, generator(SEED, n))


def test_training_attributes_name_no_held_out_combination_through_a_wrong_value() -> None:
    for n in range(3000):
        scene = sample(rng := generator(SEED, n))
        question = ask(scene.items, rng, ("attribute", "position"))
        one = question.x.only(scene.items)
        assert one is not None
        claimed = {(one.shape, question.value), (question.value, one.color)}
        assert not claimed & set(HELD_OUT)
        assert question.wording != HELD_OUT_WORDING


def test_the_vocabulary_is_small_and_held_out_wordings_use_known_words() -> None:
    assert 60 <= len(grammar.vocabulary()) <= 100
    for kind, templates in WORDINGS.items():
        assert len(set(templates)) == 4, kind
    trained = {
        word
        for templates in WORDINGS.values()
        for text in templates[:HELD_OUT_WORDING]
        for word in grammar.words(text)
    }
    for templates in WORDINGS.values():
        assert set(grammar.words(templates[HELD_OUT_WORDING])) <= trained


def test_framings_keep_the_question() -> None:
    text = str(Question("count", 0, Pick(shape="cross")))
    framed = SCENES.frame(text)
    assert len(set(framed)) == 7 and framed[0] == text and all(text in one for one in framed)


def test_skewed_wordings_are_followed() -> None:
    usage = grammar.Usage(wordings=(0.9, 0.1, 0.0, 0.0))
    counts = np.bincount([usage.wording(generator(0, n)) for n in range(500)], minlength=4)
    assert 0.8 < counts[0] / 500 < 0.97 and not counts[2:].any()
