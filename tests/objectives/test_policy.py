"""Policy gradients: invariances, bounds, and gradients at the extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.objectives.policy import (
    batch_advantages,
    centred_apart,
    ema_baseline,
    group_advantages,
    grpo_loss,
    k3,
    kl_coefficient_update,
    reinforce_loss,
)

B, G, T = 2, 3, 4
few = settings(max_examples=25)
numbers = lambda shape, low, high: arrays(
    np.float32, shape, elements=st.floats(low, high, width=16)
)
masks = lambda *shape: arrays(bool, shape)
standardized = jax.jit(group_advantages)


def grpo(log_probs, old, reference, advantages, mask):
    """The loss of a batch of groups."""
    return grpo_loss(advantages, log_probs, old, k3(log_probs, reference), mask, 0.01)


def reinforce(log_probs, old, reference, advantages, mask):
    """The same arguments for the other loss."""
    return reinforce_loss(advantages, log_probs, k3(log_probs, reference), mask, 0.01)


GRADIENTS = {
    "grpo": jax.jit(jax.value_and_grad(grpo)),
    "reinforce": jax.jit(jax.value_and_grad(reinforce)),
}
both_losses = pytest.mark.parametrize("loss", GRADIENTS)


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


@few
@given(numbers((B, G), -2, 2), masks(B, G))
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


@both_losses
@few
@given(
    numbers((B, G, T), -10, 0),
    numbers((B, G, T), -10, 0),
    numbers((B, G), -2, 2),
    masks(B, G, T),
    st.data(),
)
def test_padding_changes_nothing(loss, log_probs, old, advantages, mask, data):
    value, gradient = GRADIENTS[loss](log_probs, old, old, advantages, mask)
    np.testing.assert_array_equal(gradient[~mask], 0)
    if not mask.any():
        assert value == 0
    junk = data.draw(st.floats(-50, 0, width=16))
    fill = lambda x: np.where(mask, x, np.float32(junk))
    other = GRADIENTS[loss](fill(log_probs), fill(old), fill(old), advantages, mask)
    np.testing.assert_array_equal(value, other[0])
    np.testing.assert_array_equal(gradient, other[1])


@both_losses
def test_extremes_keep_gradients_finite(loss):
    log_probs = jnp.array([0.0, -1e-6, -50.0, -1e4]).reshape(1, 1, T)
    mask = jnp.ones((1, 1, T), bool)
    for old in (0.0, -200.0, -1e4):
        for advantage in (-5.0, 5.0):
            other = jnp.full((1, 1, T), old)
            advantages = jnp.full((1, 1), advantage)
            value, gradient = GRADIENTS[loss](log_probs, other, other, advantages, mask)
            assert np.isfinite(value) and np.isfinite(gradient).all()


@both_losses
def test_on_policy_both_are_the_policy_gradient(loss):
    log_probs = jax.random.uniform(jax.random.key(0), (B, G, T), minval=-5.0, maxval=0.0)
    advantages = jax.random.normal(jax.random.key(1), (B, G))
    mask = jnp.ones((B, G, T), bool)
    _, gradient = GRADIENTS[loss](log_probs, log_probs, log_probs, advantages, mask)
    want = jnp.broadcast_to(-advantages[..., None] / (B * G * T), gradient.shape)
    np.testing.assert_allclose(gradient, want, rtol=1e-5)


def test_the_gradient_asks_for_no_exact_equality():
    """A value that the compiler rounds twice in two ways would lose its gradient."""
    x = jnp.zeros((B, G, T))
    loss = lambda log_probs: grpo(log_probs, x, x, x[..., 0], x < 1)
    assert " eq " not in str(jax.make_jaxpr(jax.grad(loss))(x))


def test_no_gradient_beyond_the_clip():
    old = jnp.full((1, 2, 1), -2.0)
    log_probs = old + jnp.array([0.5, -0.5])[None, :, None]
    mask = jnp.ones((1, 2, 1), bool)
    loss = lambda x, sign: grpo_loss(sign * jnp.array([[1.0, -1.0]]), x, old, 0 * x, mask, 0.0)
    assert not jax.grad(loss)(log_probs, 1.0).any()  # already further than asked for
    assert jax.grad(loss)(log_probs, -1.0).all()  # on the wrong side


def test_long_sequences_weigh_as_much_as_short_ones():
    log_probs = jnp.array([[-1.0, -1.0, -1.0, -1.0], [-3.0, 0.0, 0.0, 0.0]])
    mask = jnp.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)
    loss = reinforce_loss(jnp.ones(2), log_probs, 0 * log_probs, mask, 0.0)
    np.testing.assert_allclose(loss, 2)


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


def test_classes_are_centred_by_themselves():
    x = jnp.array([1.0, 0.0, 0.5, 0.75, 0.25])
    yes, no, nobody = (jnp.array(m, bool) for m in ([1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0] * 5))
    got = centred_apart(x, yes, no, nobody)
    np.testing.assert_allclose(got, [0.5, -0.5, 0.5, 0, 0.25])


def test_running_numbers_wait_for_kept_items():
    x, kept = jnp.array([1.0, 0.5, jnp.nan]), jnp.array([True, True, False])
    np.testing.assert_allclose(ema_baseline(0.5, x, kept), 0.6 * 0.5 + 0.4 * 0.75)
    np.testing.assert_allclose(ema_baseline(0.5, x, kept & False), 0.5)
    assert kl_coefficient_update(0.5, x, kept) > 0.5
    assert kl_coefficient_update(0.5, x, kept & False) == 0.5
