"""What a step reports, and the control that deals rewards at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asg_jax.engine.report import share, shuffle, spread


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=6, max_size=6), st.integers(0, 99))
def test_shuffling_permutes_what_counts(kept: list[bool], seed: int):
    rewards, mask = jnp.arange(6.0).reshape(2, 3), jnp.array(kept).reshape(2, 3)
    dealt = shuffle(rewards, mask, jax.random.key(seed))
    assert sorted(dealt[mask].tolist()) == sorted(rewards[mask].tolist())
    assert dealt[~mask].tolist() == rewards[~mask].tolist()


@pytest.mark.parametrize("absent", [0, 2])
def test_shuffling_reaches_every_order_about_equally_often(absent: int):
    """Whatever else is in the batch."""
    mask = jnp.array([False] * absent + [True] * 3)
    many = jax.jit(jax.vmap(lambda key: shuffle(jnp.arange(3.0 + absent), mask, key)))
    dealt = many(jax.random.split(jax.random.key(0), 600))[:, absent:].tolist()
    counts = [dealt.count(order) for order in map(list, {tuple(row) for row in dealt})]
    assert len(counts) == 6 and 70 < min(counts) and max(counts) < 130


def test_groups_of_equal_rewards_are_counted():
    rewards = jnp.array([[1.0, 1.0, 5.0], [0.0, 2.0, 5.0], [5.0, 5.0, 5.0]])
    mask = jnp.array([[True, True, False], [True, True, False], [False, False, False]])
    found = spread("role", rewards, mask)
    assert set(found) == {"reward/role", "reward/role_std", "reward/role_flat"}
    assert found["reward/role"] == 1
    assert found["reward/role_std"] == pytest.approx(np.sqrt(0.5))
    assert found["reward/role_flat"] == 0.5


def test_what_is_rounding_is_flat():
    rewards = jnp.array([[0.5, 0.5 + 5e-7], [0.5, 0.501]])
    assert spread("role", rewards, jnp.ones((2, 2), bool))["reward/role_flat"] == 0.5


def test_a_share_is_of_what_counts():
    flags = jnp.array([[True, False], [True, True]])
    assert share(flags, jnp.array([[True], [False]])) == 0.5
    assert share(flags, flags) == 1
    assert share(flags, flags & False) == 0
