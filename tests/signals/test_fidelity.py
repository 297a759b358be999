"""Answers against references, and the pairs that may judge an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asg_jax.signals.fidelity import (
    answer_probability,
    judge_pair,
    qa_fidelity,
    soft_match,
    spec_quality,
)

few = settings(max_examples=25)


@few
@given(st.text(max_size=20), st.text(max_size=20))
def test_match_is_a_share(predicted, expected):
    assert 0 <= soft_match(predicted, expected) <= 1
    assert soft_match(expected, expected) in (1.0, 0.5)


def test_numbers_match_the_closer_the_better():
    scores = [soft_match(answer, "200 cars") for answer in ("201 trucks", "209", "230", "300")]
    assert scores == [1.0, 0.7, 0.4, 0.0]


def test_classes_vote_and_texts_match():
    judged = judge_pair("How many cups are there?", ["several", "3 cups", "three"], "three")
    assert judged == (0.0, pytest.approx(2 / 3), 0.0)  # "3 cups" speaks for its class
    assert judge_pair("How many cups are there?", ["three", "3"], "three") == (1.0, 1.0, 0.0)


def test_only_an_explicit_conflict_contradicts():
    side = "Which side is the tree on?"
    assert judge_pair("Is the door open?", ["no it is not", "no"], "yes").contradiction == 1
    assert judge_pair(side, ["north"], "yes").contradiction == 0
    assert judge_pair(side, ["none"], "yes").contradiction == 0


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
