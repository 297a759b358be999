"""Advantages: what they sum to, what they do not see, and the running baseline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.objectives.advantages import (
    batch_advantages,
    centred_apart,
    ema_baseline,
    group_advantages,
)

B, G = 2, 3
few = settings(max_examples=25)
numbers = lambda shape, low, high: arrays(
    np.float32, shape, elements=st.floats(low, high, width=16)
)
masks = arrays(bool, (B, G))
standardized = jax.jit(group_advantages)


def test_a_group_of_near_equals_counts_for_little_beside_another():
    rewards = jnp.array([[0.0, 1.0, 0.5], [0.50, 0.51, 0.505], [0.3, 0.3, 9.0]])
    mask = jnp.array([[True] * 3, [True] * 3, [True, True, False]])
    own, shared = standardized(rewards, mask), jax.jit(batch_advantages)(rewards, mask)
    np.testing.assert_allclose(own[0], own[1], atol=1e-3)
    np.testing.assert_allclose(shared[0], 100 * shared[1], rtol=1e-3)
    np.testing.assert_allclose(shared.sum(-1), 0, atol=1e-6)
    np.testing.assert_allclose(jnp.square(shared)[mask].mean(), 1, rtol=1e-4)
    np.testing.assert_array_equal(shared[2], 0)
    np.testing.assert_array_equal(batch_advantages(jnp.ones((2, 3)), jnp.ones((2, 1), bool)), 0)


def test_a_small_spread_counts_as_a_large_one():
    rewards, mask = jnp.array([[0.500, 0.505], [0.500, 0.505]]), jnp.ones((2, 2), bool)
    np.testing.assert_allclose(batch_advantages(rewards, mask), [[-1, 1]] * 2, rtol=1e-3)


@few
@given(numbers((B, G), -2, 2), masks)
def test_advantages_sum_to_zero(rewards, mask):
    advantages = standardized(rewards, mask)
    np.testing.assert_allclose(advantages.sum(-1), 0, atol=1e-4)
    np.testing.assert_array_equal(advantages[~mask], 0)
    junk = standardized(np.where(mask, rewards, np.nan), mask)
    np.testing.assert_array_equal(advantages, junk)


@few
@given(numbers((1, G), -2, 2))
def test_advantages_do_not_see_shift_and_scale(rewards):
    mask = np.ones((1, G), bool)
    if rewards.std() > 0.05:
        other = standardized(3 * rewards + 1, mask)
        np.testing.assert_allclose(standardized(rewards, mask), other, atol=1e-3)


@pytest.mark.parametrize("level", [0.3, -0.1, 1e-7])
def test_equal_rewards_teach_nothing(level):
    assert not standardized(jnp.full((B, G), level), jnp.ones((B, G), bool)).any()


def test_classes_are_centred_by_themselves():
    x = jnp.array([1.0, 0.0, 0.5, 0.75, 0.25])
    yes, no, nobody = (jnp.array(m, bool) for m in ([1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0] * 5))
    got = centred_apart(x, yes, no, nobody)
    np.testing.assert_allclose(got, [0.5, -0.5, 0.5, 0, 0.25])


def test_the_baseline_waits_for_kept_items():
    x, kept = jnp.array([1.0, 0.5, jnp.nan]), jnp.array([True, True, False])
    np.testing.assert_allclose(ema_baseline(0.5, x, kept), 0.6 * 0.5 + 0.4 * 0.75)
    np.testing.assert_allclose(ema_baseline(0.5, x, kept & False), 0.5)
