"""GRPO on bits: a case by hand, and that it is the plain policy gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.objectives.bits import bits_grpo_loss, bits_likelihood_loss
from asg_jax.objectives.policy_gradient import grpo_loss
from asg_jax.ops.bits import bit_kl, bit_log_probs
from asg_jax.ops.masked import masked_mean

odds = lambda share: jnp.stack([jnp.log(1 - share), jnp.log(share)], axis=-1)


def batch(seed: int = 0):
    """Logits of policy and frozen model, and bits: two prompts, three images."""
    rng = np.random.default_rng(seed)
    normal = lambda: jnp.asarray(rng.normal(size=(2, 3, 5, 4, 2)), jnp.float32)
    return normal(), normal(), jnp.asarray(rng.integers(0, 2, (2, 3, 5, 4)))


def mean(*arguments):
    """The loss of a batch."""
    return masked_mean(*bits_grpo_loss(*arguments))


def test_a_case_by_hand():
    """One prompt, two images of one token with two bits; every frozen probability is 1/2.

    Image 0 (advantage 1): its bits 1 and 0 weigh 2 and 1/2. Image 1 (advantage -1): 1 and 0.
    """
    ones = jnp.array([[[[0.8, 0.45]], [[0.3, 0.7]]]])
    bits = jnp.array([[[[1, 0]], [[1, 1]]]])
    arguments = odds(ones), odds(jnp.full(ones.shape, 0.5)), bits
    advantages, mask = jnp.array([[1.0, -1.0]]), jnp.ones((1, 2), bool)
    of_bits = [np.log(2) + p * np.log(p) + (1 - p) * np.log(1 - p) for p in np.ravel(ones)]
    kl = np.array(of_bits).reshape(2, 2).mean(-1)
    values, kept = bits_grpo_loss(*arguments, advantages, mask, 0.5)
    np.testing.assert_allclose(values, [0.5 * kl + [-1, 1]], rtol=1e-5)
    assert kept.all()
    weights = jnp.array([[[[2.0, 0.5]], [[1.0, 0.0]]]])
    values, _ = bits_grpo_loss(*arguments, advantages, mask, 0.0, 0.2, weights)
    np.testing.assert_allclose(values, [[-1.25, 0.5]], rtol=1e-5)
    values, kept = bits_likelihood_loss(*arguments, jnp.array([[False, True]]), 0.5)
    want = 0.5 * kl[1] - (np.log(0.3) + np.log(0.7)) / 2
    np.testing.assert_allclose(masked_mean(values, kept), want, rtol=1e-5)
    assert kept.tolist() == [[False, True]]


def test_it_is_grpo_on_the_flat_bits():
    logits, frozen, bits = batch()
    advantages, mask = jnp.array([[1.0, 0.5, -2.0], [0.0, 1.0, -1.0]]), jnp.ones((2, 3), bool)
    flat = lambda x: x.reshape(2, 3, 20)
    log_probs = flat(bit_log_probs(logits, bits))
    kl, counts = flat(bit_kl(logits, frozen)), jnp.ones((2, 3, 20), bool)
    want, _ = grpo_loss(advantages, log_probs, log_probs, kl, counts, 0.3)
    got, _ = bits_grpo_loss(logits, frozen, bits, advantages, mask, 0.3)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_it_is_the_plain_policy_gradient():
    logits, frozen, bits = batch()
    advantages, mask = jnp.array([[1.0, 0.0, -1.0]] * 2), jnp.ones((2, 3), bool)
    slope = jax.grad(mean)(logits, frozen, bits, advantages, mask, 0.0)
    gain = lambda x: (advantages * bit_log_probs(x, bits).mean((-2, -1))).mean()
    np.testing.assert_allclose(slope, -jax.grad(gain)(logits), atol=1e-7)


def test_nothing_is_learned_about_the_frozen_model():
    logits, frozen, bits = batch()
    mask = jnp.ones((2, 3), bool)
    losses = (
        lambda frozen: mean(logits, frozen, bits, jnp.ones((2, 3)), mask, 0.5),
        lambda frozen: masked_mean(*bits_likelihood_loss(logits, frozen, bits, mask, 0.5)),
    )
    for loss in losses:
        assert not jax.grad(loss)(frozen).any()


def test_images_that_do_not_count_teach_nothing():
    logits, frozen, bits = batch()
    mask = jnp.array([[True, False, True], [False, False, False]])
    losses = (
        lambda x: mean(x, frozen, bits, jnp.ones((2, 3)), mask, 0.1),
        lambda x: masked_mean(*bits_likelihood_loss(x, frozen, bits, mask, 0.1)),
    )
    for loss in losses:
        slope = jax.grad(loss)(logits)
        assert np.any(slope[mask]) and not np.any(slope[~mask])
    assert mean(logits, frozen, bits, jnp.ones((2, 3)), mask & False, 0.1) == 0
