"""Answers against references, and the pairs that may judge an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asg_jax.signals.fidelity import (
    Fidelity,
    SpecGate,
    answer_probability,
    match_answers,
    pair_score,
    qa_fidelity,
    soft_match,
    spec_quality,
    valid_pairs,
    winner,
)

few = settings(max_examples=25)


@few
@given(st.text(max_size=20), st.text(max_size=20))
def test_match_is_a_share(predicted, expected):
    assert 0 <= soft_match(predicted, expected) <= 1
    assert soft_match(expected, expected) in (1.0, 0.5)


def test_numbers_match_the_closer_the_better():
    answers = ("201 trucks", "209", "230", "300", "202", "210", "211", "240", "241")
    scores = [soft_match(answer, "200 cars") for answer in answers]
    assert scores == [1.0, 0.7, 0.4, 0.0, 1.0, 0.7, 0.4, 0.4, 0.0]
    strict = Fidelity(contained=0.5, near=((0.1, 0.9),))
    assert [soft_match(answer, "200 cars", strict) for answer in answers[1:3]] == [0.9, 0.0]
    assert soft_match("cars", "200 cars", strict) == 0.5 and soft_match("cars", "200 cars") == 0.8
    # Near zero the error is absolute.
    assert soft_match("0.1 cups", "0 mugs") == 0.4 and soft_match("-4", "4 mugs") == 0.0


def test_words_in_common_are_a_share():
    assert soft_match("red mug here", "blue mug") == 0.25
    assert soft_match("", "blue") == 0 and soft_match("blue", "") == soft_match("", "") == 0.5


def test_the_first_answer_of_the_largest_class_wins():
    assert winner("How many?", ["2", "three", "3", "two"]) == (0, 0.5)  # seen first
    assert winner("How many?", ["2", "three", "3"]) == (1, 2 / 3)


def test_a_question_scores_by_match_and_majority():
    match, fraction = jnp.array([1.0, 0.0, 0.4]), jnp.array([0.5, 1.0, 1.0])
    np.testing.assert_allclose(pair_score(match, fraction), [0.85, 0.3, 0.58], rtol=1e-6)
    halves = Fidelity(match=0.5, fraction=0.25)
    np.testing.assert_allclose(pair_score(match, fraction, halves), [0.625, 0.25, 0.45], rtol=1e-6)


def test_classes_vote_and_texts_match():
    judged = match_answers("How many cups are there?", ["several", "3 cups", "three"], "three")
    assert judged == (0.0, pytest.approx(2 / 3), 0.0)  # "3 cups" speaks for its class
    assert match_answers("How many cups are there?", ["three", "3"], "three") == (1.0, 1.0, 0.0)


def test_only_an_explicit_conflict_contradicts():
    side = "Which side is the tree on?"
    assert match_answers("Is the door open?", ["no it is not", "no"], "yes").contradiction == 1
    assert match_answers(side, ["north"], "yes").contradiction == 0
    assert match_answers(side, ["none"], "yes").contradiction == 0


def test_questions_that_were_not_asked_do_not_count():
    scores = jnp.array([[1.0, 0.5, 9.0], [9.0, 9.0, 9.0]])
    asked = jnp.array([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(qa_fidelity(scores, asked), [0.75, 0.5])


def test_probability_of_a_reference_answer():
    log_probs = jnp.log(jnp.array([[0.5, 0.25, 0.1]]))
    got = jax.jit(answer_probability)(log_probs, jnp.array([[True, True, False]]))
    np.testing.assert_allclose(got, 0.125, rtol=1e-6)


def test_specs_need_two_pairs():
    pairs = [("How many cups are there", "three"), ("What is on the left?", "a red mug")]
    spec = spec_quality(pairs)
    assert spec.kept == (("How many cups are there?", "three"), pairs[1])
    assert spec.accepted and spec.quality == 1
    assert not spec_quality(pairs[:1]).accepted
    assert not spec_quality([*pairs[:1], ("How many cups are there??", "four")]).accepted
    assert not spec_quality([]).accepted


def test_a_spec_keeps_three_pairs():
    spec = spec_quality([(f"What is the number {word}?", word) for word in "abcd"])
    assert len(spec.kept) == 3 and spec.validity == 0.75


def test_pairs_need_short_questions_and_answers():
    words = lambda count: " ".join("abcdefghijklmnopqrstuvwxyz"[:count])
    longest = (words(24) + "?", words(8))
    pairs = [(words(25) + "?", "x"), (words(3), words(9)), ("x?", ""), longest, (" x ? ", "y")]
    assert valid_pairs(pairs) == (longest, ("x?", "y"))
    gate = SpecGate(pairs=(1, 2), question_words=25, answer_words=9)
    assert valid_pairs(pairs, gate) == ((words(25) + "?", "x"), (words(3) + "?", words(9)))


def test_questions_are_the_same_but_for_how_they_are_written():
    pairs = [("What is it?", "a mug"), ("what is  it", "a cup"), ("What is on it?", "tea")]
    assert valid_pairs(pairs) == (pairs[0], pairs[2])


def test_quality_of_a_spec_by_hand():
    """Half of completeness, three tenths of validity, a fifth for any pair, less for yes and no."""
    spec = spec_quality([("What is the number a?", "one"), ("x?", "")])
    assert spec[1:5] == (0.5, 0.5, 1.0, 0.0)
    assert spec.quality == pytest.approx(0.6) and not spec.accepted
    pair = ("Is it a mug?", "yes"), ("Is it red?", "no")
    spec = spec_quality(pair)
    assert spec.yes_no_penalty == 0.2 and spec.quality == pytest.approx(0.8) and spec.accepted
    assert spec_quality(pair[:1]).yes_no_penalty == 0  # one alone is no pattern
    assert not spec_quality(pair, SpecGate(yes_no=0.4)).accepted  # 0.6 is below 0.65
    assert spec_quality(pair, SpecGate(quality=0.8, yes_no=0.2)).accepted
    nothing = spec_quality([])
    assert nothing == ((), 0.0, 0.0, 0.0, 0.0, 0.0, False)
    gate = SpecGate(pairs=(1, 3), completeness=0.4, validity=0.2, uniqueness=0.1)
    spec = spec_quality([("What is the number a?", "one"), ("x?", "")], gate)
    assert spec.quality == pytest.approx(0.4 + 0.1 + 0.1) and spec.completeness == 1
