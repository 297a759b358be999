"""Leave-one-out diversity and the distances that it needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.signals.cycle import embedding
from asg_jax.signals.diversity import leave_one_out_diversity, mean_distance, pairwise_distances

L = 5
few = settings(max_examples=25)
features = arrays(np.float32, (L, 4), elements=st.floats(-1, 1, width=16))
diversity = jax.jit(leave_one_out_diversity)


@jax.jit
def distances(rows):
    """Distances of rows of features, as the library makes them."""
    return pairwise_distances(embedding(rows[:, None], jnp.ones((L, 1), bool)))


def by_definition(d, mask):
    """Gains from the mean pairwise distances with and without each image."""
    kept = np.flatnonzero(mask)
    mean = lambda group: np.mean([d[i, j] for i in group for j in group if i < j])
    gains = np.zeros(L)
    for i in kept:
        gains[i] = max(0, mean(kept) - mean(kept[kept != i]))
    return gains / gains.max() if gains.max() > 1e-5 else None


@few
@given(features, st.integers(3, L))
def test_the_short_form_is_the_definition(rows, count):
    d, mask = np.asarray(distances(rows), np.float64), np.arange(L) < count
    want = by_definition(d, mask)
    if want is not None:
        np.testing.assert_allclose(diversity(d.astype(np.float32), mask), want, atol=2e-2)


@few
@given(features, arrays(bool, L))
def test_absent_images_change_nothing(rows, mask):
    d = distances(rows)
    there = mask[:, None] & mask
    got = diversity(d, mask)
    np.testing.assert_array_equal(got, diversity(jnp.where(there, d, 0.77), mask))
    assert (got >= 0).all() and (got <= 1).all() and not got[~mask].any()


@pytest.mark.parametrize("level", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_equally_different_images_add_nothing_each(level):
    d = level * (1 - jnp.eye(L))
    assert not diversity(d, jnp.ones(L, bool)).any()


def test_two_images_share_their_distance():
    d = jnp.full((L, L), 0.4)
    mask = jnp.arange(L) < 2
    np.testing.assert_allclose(diversity(d, mask), [0.4, 0.4, 0, 0, 0])


def test_identical_images_have_no_distance():
    rows = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (1, 4)), (L, 4))
    np.testing.assert_allclose(distances(rows), 0, atol=1e-6)
    assert not diversity(distances(rows), jnp.ones(L, bool)).any()


def test_a_mean_distance_is_that_of_different_images_that_exist():
    d = 0.4 * jnp.ones((2, L, L)).at[0, 0, 1].set(2).at[0, 1, 0].set(2)
    mask = jnp.array([[True, True, True, False, False], [True] + [False] * 4])
    np.testing.assert_allclose(mean_distance(d, mask), (0.8 + 0.4 + 0.4) / 3, rtol=1e-6)
