"""Policy gradients: invariances, bounds, and gradients at the extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.objectives.kl import k3
from asg_jax.objectives.policy_gradient import clipped_gain, grpo_loss, reinforce_loss
from asg_jax.ops.masked import masked_mean

B, G, T = 2, 3, 4
few = settings(max_examples=25)
numbers = lambda shape, low, high: arrays(
    np.float32, shape, elements=st.floats(low, high, width=16)
)
mean = lambda means: masked_mean(*means)
masks = lambda *shape: arrays(bool, shape)


def grpo(log_probs, old, reference, advantages, mask):
    """The loss of a batch of groups."""
    return mean(grpo_loss(advantages, log_probs, old, k3(log_probs, reference), mask, 0.01))


def reinforce(log_probs, old, reference, advantages, mask):
    """The same arguments for the other loss."""
    return mean(reinforce_loss(advantages, log_probs, k3(log_probs, reference), mask, 0.01))


GRADIENTS = {
    "grpo": jax.jit(jax.value_and_grad(grpo)),
    "reinforce": jax.jit(jax.value_and_grad(reinforce)),
}
both_losses = pytest.mark.parametrize("loss", GRADIENTS)


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
    signs = jnp.array([[1.0, -1.0]])
    loss = lambda x, sign: mean(grpo_loss(sign * signs, x, old, 0 * x, mask, 0.0))
    assert not jax.grad(loss)(log_probs, 1.0).any()  # already further than asked for
    assert jax.grad(loss)(log_probs, -1.0).all()  # on the wrong side


def test_long_sequences_weigh_as_much_as_short_ones():
    log_probs = jnp.array([[-1.0, -1.0, -1.0, -1.0], [-3.0, 0.0, 0.0, 0.0]])
    mask = jnp.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)
    values, kept = reinforce_loss(jnp.ones(2), log_probs, 0 * log_probs, mask, 0.0)
    np.testing.assert_allclose(masked_mean(values, kept), 2)


def test_gain_is_the_worse_of_the_ratio_and_its_clipped_form():
    ratio = jnp.broadcast_to(jnp.array([0.5, 0.7, 1.0, 1.3, 1.5]), (3, 5))
    signs = jnp.array([[2.0], [-2.0], [0.0]])
    want = np.minimum(signs * ratio, signs * np.clip(ratio, 0.7, 1.3))
    np.testing.assert_allclose(clipped_gain(signs, ratio, 0.3), want, rtol=1e-6)


def test_a_case_by_hand():
    """Two texts of two tokens and one: the ratio, the penalty and the weights of tokens."""
    old = jnp.log(jnp.array([[0.5, 0.5], [0.4, 0.9]]))
    now = jnp.log(jnp.array([[0.55, 0.8], [0.2, 0.9]]))
    mask, kl = jnp.array([[True, True], [True, False]]), jnp.array([[0.1, 0.3], [0.5, 9.0]])
    arguments = jnp.array([2.0, -1.0]), now, old, kl, mask, 0.5
    values, kept = grpo_loss(*arguments, 0.2)
    by_hand = [(0.05 + 0.15) / 2 - 2 * (1.1 + 1.2) / 2, 0.25 + 0.8]
    np.testing.assert_allclose(values, by_hand, rtol=1e-5)
    assert kept.tolist() == [True, True]
    weights = jnp.array([[1.0, 0.5], [2.0, 9.0]])
    values, _ = grpo_loss(*arguments, 0.2, weights)
    by_hand = [(0.05 + 0.15) / 2 - 2 * (1.1 + 0.5 * 1.2) / 2, 0.25 + 2 * 0.8]
    np.testing.assert_allclose(values, by_hand, rtol=1e-5)
    values, _ = reinforce_loss(jnp.array([2.0, -1.0]), now, kl, mask, 0.5)
    by_hand = [0.1 - (np.log(0.55) + np.log(0.8)), 0.25 + np.log(0.2)]
    np.testing.assert_allclose(values, by_hand, rtol=1e-5)


def test_a_sequence_without_tokens_has_no_loss():
    x, mask = jnp.zeros((2, T)), jnp.array([[True] * T, [False] * T])
    for values, kept in (
        grpo_loss(jnp.ones(2), x, x, x, mask, 0.1),
        reinforce_loss(jnp.ones(2), x - 1, x, mask, 0.1),
    ):
        assert kept.tolist() == [True, False] and values[0] != 0 and values[1] == 0
