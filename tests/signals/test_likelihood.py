"""Likelihoods as rewards: what groups see of them, and how sure they are."""

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.objectives.advantages import GroupStatistic, group_advantages
from asg_jax.signals.likelihood import (
    bayes_gap,
    bayes_weights,
    estimate,
    mean_log_prob,
    pmi,
    token_probability,
    velocity_likelihood,
)

RNG = np.random.default_rng(0)
MASK = jnp.arange(6) < jnp.array([[6], [3], [1]])


def test_a_long_text_does_not_underflow():
    assert token_probability(jnp.full(2000, -3.0), jnp.ones(2000, bool)) == jnp.exp(-3.0)


def test_padding_does_not_count():
    log_probs = jnp.asarray(-RNG.uniform(1, 3, (3, 6)), jnp.float32)
    want = mean_log_prob(log_probs, MASK)
    np.testing.assert_allclose(want[1], log_probs[1, :3].mean(), rtol=1e-6)
    np.testing.assert_array_equal(mean_log_prob(jnp.where(MASK, log_probs, jnp.nan), MASK), want)


def test_both_scales_rank_a_group_alike_but_do_not_move_it_alike():
    """GvU and SUDER on the same tokens; what a group shares moves neither."""
    rewards = jnp.array([[-2.2, -1.0, -0.5, -3.0]])
    everyone = jnp.ones((1, 1), bool)
    unbiased = GroupStatistic(ddof=1, eps=1e-4)
    log, plain = (group_advantages(x, everyone, unbiased) for x in (rewards, jnp.exp(rewards)))
    np.testing.assert_array_equal(jnp.argsort(log), jnp.argsort(plain))
    assert np.abs(log - plain).max() > 0.1
    centred = group_advantages(pmi(rewards, jnp.array([[-4.0]])), everyone, unbiased)
    np.testing.assert_allclose(centred, log, atol=1e-5)


def test_two_samples_learn_only_the_sign():
    gap = jnp.array([[0.31, 0.30], [0.9, 0.1]])
    found = group_advantages(gap, jnp.ones((2, 1), bool), GroupStatistic(ddof=1, eps=1e-4))
    np.testing.assert_allclose(found, [[0.707, -0.707]] * 2, atol=0.02)


def test_shared_draws_take_the_noise_out_of_a_group():
    """What all candidates have in common in a draw is not what their order depends on."""
    common, own = RNG.normal(size=(5, 1, 16)), 0.01 * RNG.normal(size=(5, 4, 16))
    found = estimate(jnp.asarray(common + own, jnp.float32))
    np.testing.assert_allclose(found.mean, (common + own).mean(-1), rtol=1e-4)
    assert (found.variance < 1e-3 * found.alone).all()
    several = jax.vmap(lambda n: estimate(jnp.asarray(n)))(RNG.normal(size=(4000, 4, 8)))
    spread = (several.mean - several.mean.mean(-1, keepdims=True)).var()
    np.testing.assert_allclose(several.variance.mean(), spread, rtol=0.05)  # it is what it says
    assert np.isnan(estimate(jnp.ones((4, 1))).variance)


def test_a_perfect_velocity_is_likeliest():
    goal = jnp.asarray(RNG.normal(size=(4, 3, 2)))
    assert (velocity_likelihood(goal, goal) == 0).all()
    assert (velocity_likelihood(goal + 0.1, goal) < 0).all()


def test_two_sides_that_agree_have_no_gap():
    joint = np.log(RNG.dirichlet(np.ones(6)).reshape(2, 3))
    image, text = np.log(np.exp(joint).sum(0)), np.log(np.exp(joint).sum(1, keepdims=True))
    given = joint - text, np.broadcast_to(text, joint.shape), joint - image, image + 0 * joint
    np.testing.assert_allclose(bayes_gap(*map(jnp.asarray, given)), 0, atol=1e-6)


def test_weights_of_prompts_sum_to_one_at_any_size():
    weights = bayes_weights(jnp.array([-9000.0, -9001.0, -9900.0]))
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    assert weights[0] > weights[1] > weights[2] == 0
