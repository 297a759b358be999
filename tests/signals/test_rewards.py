"""Rewards: ranges, what padding may not do, and what must cost more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.signals.rewards import (
    AnswerReward,
    Penalties,
    best,
    question_penalty,
    solver_rewards,
    weighted,
)
from asg_jax.signals.vote import Consistency, Vote, vote

N = 7
few = settings(max_examples=25)
ballots = arrays(np.int32, N, elements=st.integers(0, 3))
flags = arrays(bool, N)
counts = arrays(np.int32, N, elements=st.integers(0, 40))
reward = jax.jit(lambda labels, mask, *rest: solver_rewards(vote(labels, mask), *rest))


def test_penalties_add():
    malformed, subjective, repeated = jnp.array([[0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]], bool)
    got = question_penalty(malformed, subjective, repeated)
    np.testing.assert_allclose(got, [0, 0.35, 0.35, 0.7], rtol=1e-6)
    one, two, three = jnp.eye(3, dtype=bool)
    got = question_penalty(one, two, three, Penalties(0.1, 0.2, 0.4))
    np.testing.assert_allclose(got, [0.1, 0.2, 0.4], rtol=1e-6)


def test_a_reward_is_a_weighted_sum_of_the_signals_that_have_a_weight():
    values = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([10.0, 0.0])}
    np.testing.assert_allclose(weighted(values, {"a": 0.5, "b": -0.1}), [-0.5, 1], rtol=1e-6)
    np.testing.assert_allclose(weighted(values, {"b": 2.0}), [20, 0])
    np.testing.assert_allclose(weighted(values, {"absent": 0.0, "a": 3.0}), [3, 6])


def answer(words: int, flag: bool, low: bool, agrees: bool, numbers: AnswerReward) -> float:
    """Reward of the only answer of a class with half of the votes, where a vote teaches 0.4."""
    one = lambda x: jnp.array([x])
    found = Vote(
        jnp.array(0), one(agrees), one(0.5), jnp.array(0.5), jnp.array(0.2), jnp.array(9.0)
    )
    taught = Consistency(entropy_peak=0.0, entropy_width=0.0, margin_range=1.0)  # (1 - 0.2) / 2
    rest = one(words), one(flag), one(low), numbers, taught
    return float(solver_rewards(found, *rest)[0])


def test_an_answer_by_hand():
    """Agreement, flaws, and words: half of six too many cost half of the verbosity."""
    plain = AnswerReward(power=1.0)
    for words, flag, low, agrees, want in (
        (6, False, False, True, 0.4),
        (9, False, False, True, 0.4 * 0.95),
        (12, False, False, True, 0.4 * 0.9),
        (99, False, False, True, 0.4 * 0.9),
        (0, True, False, True, 0.3),
        (0, True, True, True, 0.22),
        (0, False, False, False, -0.1),
        (12, True, False, False, -0.2 * 1.1),
    ):
        assert answer(words, flag, low, agrees, plain) == pytest.approx(0.5 * want)
    assert answer(0, False, False, True, AnswerReward()) == pytest.approx(0.5**0.7 * 0.4)


def test_the_numbers_of_an_answer_can_be_changed():
    numbers = AnswerReward(-0.5, 0.2, 0.3, 2, 4, 0.4, 2.0)
    assert answer(3, False, False, True, numbers) == pytest.approx(0.25 * 0.4 * 0.8)
    assert answer(0, True, True, True, numbers) == pytest.approx(0.25 * (0.4 - 0.5))
    assert answer(0, False, False, False, numbers) == pytest.approx(0.25 * -0.2)


def test_a_vote_that_teaches_nothing_keeps_the_least_scale():
    sure = vote(jnp.zeros(N, jnp.int32), jnp.ones(N, bool))
    taught = Consistency(entropy_width=0.0)
    rest = jnp.zeros(N, jnp.int32), jnp.zeros(N, bool), jnp.zeros(N, bool)
    got = solver_rewards(sure, *rest, AnswerReward(least=0.01), taught)
    np.testing.assert_allclose(got, 0.01, rtol=1e-5)
    np.testing.assert_allclose(solver_rewards(sure, *rest, consistency=taught), 1e-4, rtol=1e-5)


@few
@given(ballots, flags, counts, flags, flags)
def test_absent_answers_earn_nothing_and_change_nothing(labels, mask, words, noncanonical, low):
    got = reward(labels, mask, words, noncanonical, low)
    assert (np.abs(got) <= 1.1 * 1.18).all() and not got[~mask].any()
    other = reward(np.where(mask, labels, 9), mask, words, noncanonical | ~mask, low)
    np.testing.assert_array_equal(got, other)


@few
@given(ballots, counts, flags)
def test_more_words_or_less_meaning_never_pay(labels, words, low):
    everyone = np.ones(N, bool)
    got = reward(labels, everyone, words, low, low)
    assert (reward(labels, everyone, words + 1, low, low) <= got).all()
    assert (reward(labels, everyone, words, everyone, everyone) <= got).all()


@few
@given(ballots)
def test_agreement_pays(labels):
    spotless = np.zeros(N, bool)
    got = reward(labels, ~spotless, np.zeros(N, np.int32), spotless, spotless)
    agrees = vote(jnp.asarray(labels), jnp.ones(N, bool)).agrees
    assert (got[agrees] > 0).all() and (got[~agrees] < 0).all()


def test_the_best_is_an_allowed_one():
    rewards = jnp.array([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [-0.3, -0.2, 0.9]])
    allowed = jnp.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], bool)
    winner = best(rewards, allowed)
    assert winner.exists.tolist() == [True, False, True]
    assert winner.place[winner.exists].tolist() == [2, 1]
    np.testing.assert_allclose(winner.pick(rewards)[winner.exists], [0.5, -0.2])
    wide = jnp.arange(3 * 3 * 2 * 4).reshape(3, 3, 2, 4)
    np.testing.assert_array_equal(winner.pick(wide)[2], wide[2, 1])
    np.testing.assert_array_equal(winner.pick(wide)[0], wide[0, 2])
