"""The question set: even, reproducible, and true of the pictures."""

from collections import Counter

import pytest

from asg_jax.train.data.questions import HELD_OUT_WORDING, KINDS, answer, parse_question
from asg_jax.train.data.scenes import HELD_OUT
from asg_jax.train.evaluate.detector import detect
from asg_jax.train.evaluate.questions import question_set

SEED = 77


@pytest.fixture(scope="module")
def asked():
    return question_set(SEED)


def test_the_set_is_a_function_of_the_seed(asked) -> None:
    question_set.cache_clear()
    again = question_set(SEED)
    assert again.items == asked.items and (again.pictures == asked.pictures).all()
    other = question_set(SEED + 1, 400)
    assert not any((a == b).all() for a, b in zip(other.pictures, asked.pictures, strict=False))
    fewer = question_set(SEED, 400)
    assert fewer.items == asked.items[:400] and (fewer.pictures == asked.pictures[:100]).all()


def test_kinds_wordings_and_combinations_are_covered_evenly(asked) -> None:
    items = asked.items
    assert (len(items), asked.pictures.shape) == (3200, (800, 32, 32, 3))
    assert [item.picture for item in items] == [n // 4 for n in range(3200)]
    kinds = Counter(item.question.kind for item in items)
    assert set(kinds) == set(KINDS) and max(kinds.values()) - min(kinds.values()) <= 2
    wordings = Counter(item.question.wording for item in items)
    assert len(wordings) == 4 and all(700 < number < 900 for number in wordings.values())
    assert sum(item.unseen for item in items) == wordings[HELD_OUT_WORDING]
    assert sum(item.held_out for item in items) == 800
    assert len({(item.picture, item.question.kind) for item in items}) == 3200


def test_the_truth_can_be_seen_in_the_pictures(asked) -> None:
    seen = detect(asked.pictures)
    assert all(detection.unclear == 0 for detection in seen)
    for item in asked.items:
        assert item.truth in item.question.options
        assert answer(item.question, seen[item.picture].items) == item.truth
        assert parse_question(str(item.question)) == item.question


def test_held_out_combinations_are_where_they_are_said_to_be(asked) -> None:
    seen = detect(asked.pictures)
    for item in asked.items:
        shown = any((i.shape, i.color) in HELD_OUT for i in seen[item.picture].items)
        named = item.question.x.held_out or item.question.y.held_out
        assert shown == item.held_out
        assert item.held_out or not named
