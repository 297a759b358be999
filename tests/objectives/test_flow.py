"""Updates of a flow generator: what minimises them, what they ignore, what they may not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.objectives.advantages import group_advantages
from asg_jax.objectives.flow import (
    drift,
    flow_grpo_loss,
    nft_loss,
    nft_weight,
    rwr_loss,
    rwr_weights,
    step_kl,
)
from asg_jax.ops.flow import flow_sde_step
from asg_jax.ops.masked import masked_mean

B, G, L, C, S = 2, 3, 4, 2, 3
few = settings(max_examples=25)
advantage = arrays(np.float32, (B, G), elements=st.floats(-3, 3, width=16))
masks = arrays(bool, (B, G))


def velocities(seed, *lead):
    """Random velocities of all images."""
    return jax.random.normal(jax.random.key(seed), (*lead, B, G, L, C))


V, GOAL, OLD, FROZEN = map(velocities, range(4))
TIME = jnp.linspace(0.1, 0.9, B * G).reshape(B, G)


def rwr(prediction, advantages, mask, beta):
    """Reward-weighted regression at fixed noisy images."""
    return masked_mean(rwr_loss(prediction, GOAL, FROZEN, advantages, mask, beta), mask)


def nft(prediction, advantages, mask, beta):
    """The negative-aware loss at fixed noisy images."""
    losses = nft_loss(prediction, OLD, GOAL, FROZEN, TIME, advantages, beta)
    return masked_mean(losses, mask)


GRADIENTS = {"rwr": jax.jit(jax.value_and_grad(rwr)), "nft": jax.jit(jax.value_and_grad(nft))}
both_losses = pytest.mark.parametrize("loss", GRADIENTS)


@few
@given(advantage, masks)
def test_weights_average_to_one(advantages, mask):
    weights = jax.jit(rwr_weights)(advantages, mask)
    np.testing.assert_allclose(weights.sum(-1), mask.sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(weights[~mask], 0)


@both_losses
@few
@given(advantage, masks, st.floats(0.001, 1.0))
def test_absent_images_change_nothing(loss, advantages, mask, beta):
    value, gradient = GRADIENTS[loss](V, advantages, mask, beta)
    assert value > 0 if mask.any() else value == 0
    np.testing.assert_array_equal(gradient[~mask], 0)
    junk = jnp.where(mask[..., None, None], V, 40.0)
    other = GRADIENTS[loss](junk, np.where(mask, advantages, 2.5), mask, beta)
    np.testing.assert_array_equal(value, other[0])
    np.testing.assert_array_equal(gradient, other[1])


@both_losses
@few
@given(advantage, st.floats(1.0, 1e4))
def test_no_direction_leads_below_zero(loss, advantages, far):
    for direction in (GOAL, -GOAL, OLD, velocities(7)):
        value, gradient = GRADIENTS[loss](far * direction, advantages, np.ones((B, G), bool), 0.0)
        assert value >= 0 and np.isfinite(gradient).all()


@both_losses
def test_drift_pulls_to_the_frozen_model(loss):
    everyone, none = jnp.ones((B, G), bool), jnp.zeros((B, G))
    gradient = lambda beta: GRADIENTS[loss](V, none, everyone, beta)[1]
    pull = gradient(2.0) - gradient(0.0)
    np.testing.assert_allclose(pull, 2 * 2 * (V - FROZEN) / V.size, rtol=1e-3, atol=1e-6)


def test_nft_is_the_distance_of_predicted_clean_images():
    x0, noise = velocities(5), velocities(6)
    t = TIME[..., None, None]
    xt = (1 - t) * x0 + t * noise
    distance = lambda clean: ((clean - x0) ** 2).mean((-2, -1))
    x, x_old = xt - t * V, xt - t * OLD
    advantages = jnp.linspace(-2.5, 2.5, B * G).reshape(B, G)
    r = nft_weight(advantages)
    want = r * distance(x) + (1 - r) * distance(2 * x_old - x)
    got = nft_loss(V, OLD, noise - x0, FROZEN, TIME, advantages, 0.0)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(("advantage", "target"), [(2.0, GOAL), (-2.0, 2 * OLD - GOAL), (0.0, OLD)])
def test_nft_moves_towards_good_images_and_mirrors_bad_ones(advantage, target):
    everyone = jnp.ones((B, G), bool)
    _, gradient = GRADIENTS["nft"](target, advantage * jnp.ones((B, G)), everyone, 0.0)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def rollout():
    """A recorded stochastic rollout, whose last step has no noise."""
    x, noise = velocities(8, S), velocities(9, S)
    times = jnp.array([0.9, 0.5, 0.2, 0.0])
    step = jax.vmap(flow_sde_step, (0, 0, 0, 0, None, 0, 0))
    return step(x, velocities(10, S), times[:-1], times[1:], 0.7, noise, times[:-1])


STEPS = rollout()
ADVANTAGES = group_advantages(jax.random.normal(jax.random.key(11), (B, G)), jnp.ones((B, G), bool))


@jax.jit
@jax.value_and_grad
def flow_grpo(mean, mask, beta):
    """The loss of the rollout for other means of the policy."""
    rest = ADVANTAGES, mask, beta, 0.2
    return masked_mean(*flow_grpo_loss(STEPS.x_next, mean, STEPS.mean, STEPS.std, *rest))


def test_flow_grpo_on_policy():
    everyone = jnp.ones((B, G), bool)
    value, gradient = flow_grpo(STEPS.mean, everyone, 0.5)
    np.testing.assert_allclose(value, 0, atol=1e-6)  # advantages sum to zero, and so do the drifts
    assert not gradient[-1].any()  # a step without noise teaches nothing
    std = STEPS.std[:-1, None, None, None, None]
    score = (STEPS.x_next - STEPS.mean)[:-1] / std**2
    want = -ADVANTAGES[..., None, None] * score / (B * G * L * C * (S - 1))
    np.testing.assert_allclose(gradient[:-1], want, rtol=1e-4, atol=1e-7)


def test_flow_grpo_leaves_absent_images_out():
    mask = jnp.ones((B, G), bool).at[0, 1].set(False)
    value, gradient = flow_grpo(STEPS.mean + 0.1, mask, 0.5)
    assert np.isfinite(value) and not gradient[:, 0, 1].any() and gradient[:-1, 0, 0].all()
    assert flow_grpo(STEPS.mean, mask & False, 0.5)[0] == 0


def test_step_kl():
    np.testing.assert_allclose(step_kl(V, V + 0.3, 0.5), 0.3**2 / (2 * 0.5**2), rtol=1e-4)
    np.testing.assert_array_equal(step_kl(V, V + 0.3, 0.0), 0)


def test_losses_are_per_image():
    """The weights of a group times the error of each image, and its own drift."""
    advantages = jnp.array([[1.0, -1.0, 0.0], [2.0, 0.0, 9.0]])
    mask = jnp.array([[True, True, True], [True, True, False]])
    error = ((V - GOAL) ** 2).mean((-2, -1))
    moved = ((V - FROZEN) ** 2).mean((-2, -1))
    np.testing.assert_allclose(drift(V, FROZEN), moved, rtol=1e-6)
    share = np.where(mask, np.exp(np.asarray(advantages) / 0.5), 0)
    weights = share / share.sum(-1, keepdims=True) * mask.sum(-1, keepdims=True)
    got = rwr_loss(V, GOAL, FROZEN, advantages, mask, 0.3, 0.5)
    np.testing.assert_allclose(got, weights * error + 0.3 * moved, rtol=1e-4)


def test_flow_grpo_is_per_image_with_the_drift_of_its_noisy_steps():
    """Off the frozen means, whose ratio is 1 all the same; the last step has no noise."""
    mean, mask = STEPS.mean + velocities(12, S), jnp.ones((B, G), bool)
    values, kept = flow_grpo_loss(
        STEPS.x_next, mean, STEPS.mean, STEPS.std, ADVANTAGES, mask, 0.5, 0.2
    )
    kl = [step_kl(mean[s], STEPS.mean[s], STEPS.std[s]) for s in range(S - 1)]
    np.testing.assert_allclose(values, 0.5 * np.mean(kl, axis=0) - ADVANTAGES, rtol=1e-4)
    assert kept.all()


def test_nothing_is_learned_about_frozen_and_older_models():
    ones, everyone = jnp.ones((B, G)), jnp.ones((B, G), bool)
    losses = (
        (lambda x: rwr_loss(V, GOAL, x, ones, everyone, 0.5), FROZEN),
        (lambda x: rwr_loss(V, GOAL, FROZEN, x, everyone, 0.5), ADVANTAGES),
        (lambda x: nft_loss(V, x, GOAL, FROZEN, TIME, 0 * ones, 0.5), OLD),
        (lambda x: nft_loss(V, OLD, GOAL, x, TIME, 0 * ones, 0.5), FROZEN),
        (lambda x: nft_loss(V, OLD, GOAL, FROZEN, TIME, x, 0.5), ADVANTAGES),
        (lambda x: step_kl(V, x, 0.5), FROZEN),
    )
    for n, (loss, of) in enumerate(losses):
        assert not jax.grad(lambda x, loss=loss: loss(x).sum())(of).any(), n
