"""Annotators: whose mistakes are habits, and whose are slips."""

from collections import Counter

import numpy as np

from asg_jax.train.data.annotators import habit, label
from asg_jax.train.data.grammar import FRAMINGS
from asg_jax.train.data.questions import KINDS, Question, Usage

ANNOTATORS = range(len(FRAMINGS))


def told(kind: str, truth: str, annotator: int, usage: Usage, count: int = 600) -> Counter:
    rng = np.random.default_rng(1)
    return Counter(label(Question(kind), truth, annotator, usage, rng) for _ in range(count))


def test_without_habits_and_slips_labels_are_true():
    for kind in KINDS:
        for truth in Question(kind).options:
            assert told(kind, truth, 2, Usage(), count=5) == {truth: 5}


def test_a_habit_is_one_other_answer_to_one_truth():
    usage = Usage(habits=0.75)
    for kind in KINDS:
        for annotator in ANNOTATORS:
            known = habit(annotator, kind)
            for truth in Question(kind).options:
                counts = told(kind, truth, annotator, usage, count=200)
                if known is None or truth != known[0]:
                    assert counts == {truth: 200}
                else:
                    assert set(counts) == {truth, known[1]} and 120 < counts[known[1]] < 180


def test_most_annotators_know_better_than_one_with_a_habit():
    """So a vote over all framings can be right where each single one has its weakness."""
    for kind in KINDS:
        for truth in Question(kind).options:
            wrong = [n for n in ANNOTATORS if (habit(n, kind) or ("",))[0] == truth]
            assert len(wrong) < len(FRAMINGS) / 2
    assert all(any(habit(n, kind) for kind in KINDS) for n in ANNOTATORS)


def test_slips_are_spread_over_the_other_answers():
    counts = told("color", "red", 0, Usage(wrong=0.3))
    assert 0.22 < 1 - counts["red"] / 600 < 0.38
    assert len(counts) == 6
