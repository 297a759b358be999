"""Rewards: ranges, what padding may not do, and what must cost more."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.signals.rewards import (
    GenerationWeights,
    best,
    generation_reward,
    proposer_reward,
    question_penalty,
    solver_rewards,
)
from asg_jax.signals.vote import vote

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


def test_an_unanswered_question_is_worth_the_least_of_both_signals():
    answered = jnp.array([True, False])
    nothing = jnp.array([0.5, jnp.nan])  # whatever a padded row computes
    got = proposer_reward(nothing, nothing, jnp.array([0.0, 0.35]), answered)
    np.testing.assert_allclose(got, [0.5, -0.65], rtol=1e-6)


def test_weights_switch_signals_off():
    one = jnp.ones(())
    only = proposer_reward(one, 0.5 * one, 0 * one, one > 0, ste_weight=0.0, consistency_weight=1.0)
    assert only == 0.5
    weights = GenerationWeights(fidelity=0.0, cycle=1.0, diversity=0.0, contradiction=0.0)
    assert generation_reward(one, 0.25 * one, one, one, one, weights) == 0.25


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
    index, found = best(rewards, allowed)
    assert found.tolist() == [True, False, True]
    assert index[found].tolist() == [2, 1]
