"""Preferences: which samples have a loss, and what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.objectives.preference import feature_distance, pairwise_losses, preference_loss

SCORES = jnp.array([[2.0, -1.0, 0.5, 7.0], [0.0, 1.0, 2.0, 3.0]])
ORDER = jnp.array([[1.0, -1.0, 2.0, -1.0], [1.0, 1.0, 0.0, -1.0]])
KEPT = jnp.array([[True, True, True, False], [True, False, True, True]])
sigmoid = lambda x: 1 / (1 + np.exp(-x))


def test_every_preferred_sample_meets_all_that_it_is_preferred_to():
    losses, kept = pairwise_losses(SCORES, ORDER, KEPT, gamma=0.5)
    np.testing.assert_array_equal(kept, [[1, 0, 1, 0], [1, 0, 0, 0]])
    want = [-np.log(sigmoid(x - 0.5)) for x in (3.0, 1.5, -3.0)]
    np.testing.assert_allclose(losses[kept], want, rtol=1e-5)


def test_samples_that_do_not_count_have_no_gradient():
    total = lambda scores: pairwise_losses(scores, ORDER, KEPT)[0].sum()
    slope = jax.grad(total)(SCORES.at[0, 3].set(jnp.nan))
    np.testing.assert_array_equal(slope[~KEPT], 0)
    assert slope[0, 0] < 0 < slope[0, 1] and np.isfinite(slope).all()


def test_smoothing_takes_a_share_of_the_pairs_the_other_way_round():
    x = jnp.array([3.0, -900.0])
    want = 0.9 * preference_loss(x) + 0.1 * preference_loss(-x)
    np.testing.assert_allclose(preference_loss(x, 0.1), want, rtol=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "sq_euclidean", "cosine"])
def test_equal_features_are_at_no_distance_and_have_a_gradient(distance):
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    far = lambda a: feature_distance(a, x, "mean", distance)
    np.testing.assert_allclose(far(x), 0, atol=1e-6)
    assert np.isfinite(jax.grad(lambda a: far(a).sum())(x)).all()
    assert (far(x + jax.random.normal(jax.random.key(1), x.shape)) > 1e-3).all()
