"""What is learned from of a group."""

import jax.numpy as jnp
import numpy as np

from asg_jax.signals.selection import accepted_pair, best_of, extremes

REWARDS = jnp.array([[0.2, 0.9, 0.1, 0.9], [0.5, 0.5, 0.5, 0.5]])
EVERYONE = jnp.ones((1, 1), bool)


def test_several_pairs_go_from_the_ends_to_the_middle():
    found = extremes(REWARDS, EVERYONE, 2)
    np.testing.assert_array_equal(found.better[0], [1, 3])
    np.testing.assert_array_equal(found.worse[0], [2, 0])
    np.testing.assert_array_equal(found.exists, [[True, True], [False, False]])


def test_absent_samples_are_in_no_pair():
    mask = jnp.array([[True, False, True, False], [True, False, False, False]])
    found = extremes(REWARDS, mask, 2)
    assert (found.better[0, 0], found.worse[0, 0]) == (0, 2)
    np.testing.assert_array_equal(found.exists, [[True, False], [False, False]])
    accepted = accepted_pair(REWARDS, mask, 0.15)
    assert (accepted.better[0, 0], accepted.worse[0, 0]) == (0, 2)
    np.testing.assert_array_equal(accepted.exists, [[True], [False]])


def test_the_first_of_equals_is_the_best():
    np.testing.assert_array_equal(best_of(REWARDS, 3), [[1, 3, 0], [0, 1, 2]])
