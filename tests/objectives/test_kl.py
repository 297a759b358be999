"""Drift from the frozen model: its estimate and the coefficient that follows it."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.objectives.kl import LOG_BOUND, k3, kl_coefficient_update

few = settings(max_examples=25)
numbers = lambda shape, low, high: arrays(
    np.float32, shape, elements=st.floats(low, high, width=16)
)


@few
@given(numbers((8,), -30, 0), numbers((8,), -30, 0))
def test_k3_is_a_divergence(log_probs, reference):
    assert (k3(jnp.asarray(log_probs), jnp.asarray(reference)) >= 0).all()
    assert not k3(jnp.asarray(log_probs), jnp.asarray(log_probs)).any()


@few
@given(st.floats(1e-3, 1e2), st.floats(0, 1e6) | st.sampled_from([np.inf, np.nan]))
def test_kl_coefficient_stays_in_bounds(beta, kl):
    got = float(kl_coefficient_update(beta, jnp.array([kl]), jnp.array([True])))
    assert 1e-3 * (1 - 1e-6) <= got <= 1e2
    if np.isfinite(kl):
        assert got >= beta * (1 - 1e-6) if kl >= 0.02 else got <= beta * (1 + 1e-6)
    else:
        np.testing.assert_allclose(got, beta, rtol=1e-6)


def test_k3_by_hand_and_at_its_bound():
    policy = jnp.log(jnp.array([0.5, 0.25]))
    got = k3(policy, jnp.log(jnp.array([0.25, 0.5])))
    np.testing.assert_allclose(got, [0.5 - 1 + np.log(2), 2 - 1 - np.log(2)], rtol=1e-5)
    far = k3(jnp.array([-100.0]), jnp.array([0.0]))
    np.testing.assert_allclose(far, np.expm1(LOG_BOUND) - LOG_BOUND, rtol=1e-6)


def test_the_coefficient_waits_for_kept_items():
    drift, kept = jnp.array([1.0, 0.5, jnp.nan]), jnp.array([True, True, False])
    assert kl_coefficient_update(0.5, drift, kept) > 0.5
    assert kl_coefficient_update(0.5, drift, kept & False) == 0.5


def test_the_coefficient_follows_the_relative_error():
    one = lambda kl: kl_coefficient_update(0.01, jnp.array([kl]), jnp.array([True]), 0.5, 0.2)
    np.testing.assert_allclose(one(1.5), 0.01 * np.exp(0.2 * 2), rtol=1e-6)
    np.testing.assert_allclose(one(0.25), 0.01 * np.exp(-0.2 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(one(1e6), 100, rtol=1e-6)  # an error of 50 targets at the most
    far = kl_coefficient_update(0.01, jnp.array([1e6]), jnp.array([True]), 0.5, 0.01)
    np.testing.assert_allclose(far, 0.01 * np.exp(0.5), rtol=1e-6)
