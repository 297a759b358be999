"""GRPO on bits: a case by hand, and that it is the plain policy gradient where it should be."""

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.objectives.bits import bits_grpo_loss, bits_likelihood_loss, surrogate_loss
from asg_jax.objectives.policy import group_advantages, grpo_loss
from asg_jax.ops.bits import bit_kl, bit_log_probs
from tests import goldens

HALF = np.log(0.5)
odds = lambda share: jnp.stack([jnp.log(1 - share), jnp.log(share)], axis=-1)


def batch(seed: int = 0):
    """Logits of policy and frozen model, bits, recorded log-probs: two prompts, three images."""
    rng = np.random.default_rng(seed)
    normal = lambda: jnp.asarray(rng.normal(size=(2, 3, 5, 4, 2)), jnp.float32)
    bits = jnp.asarray(rng.integers(0, 2, (2, 3, 5, 4)))
    return normal(), normal(), bits, jnp.asarray(rng.normal(-0.7, 0.2, bits.shape), jnp.float32)


def test_a_case_by_hand():
    """One prompt, two images of one token with two bits; every probability was 1/2.

    Image 0 (advantage 1): bits 1 and 0 at probabilities 0.8 and 0.55, so ratios 1.6 (clipped to
    1.2) and 1.1. Image 1 (advantage -1): bits 1 and 1 at 0.3 and 0.7, so ratios 0.6 (clipped to
    0.8, which is worse for it) and 1.4 (as it is).
    """
    ones = jnp.array([[[[0.8, 0.45]], [[0.3, 0.7]]]])
    bits = jnp.array([[[[1, 0]], [[1, 1]]]])
    arguments = odds(ones), odds(jnp.full(ones.shape, 0.5)), bits, jnp.full(bits.shape, HALF)
    advantages, mask = jnp.array([[1.0, -1.0]]), jnp.ones((1, 2), bool)
    kl = np.log(2) + np.mean([p * np.log(p) + (1 - p) * np.log(1 - p) for p in np.ravel(ones)])
    gain = ((1.2 + 1.1) / 2 + (-0.8 - 1.4) / 2) / 2
    got = bits_grpo_loss(*arguments, advantages, mask, 0.5)
    np.testing.assert_allclose(got, 0.5 * kl - gain, rtol=1e-5)
    alone = bits_grpo_loss(*arguments, advantages, jnp.array([[True, False]]), 0.0)
    np.testing.assert_allclose(alone, -1.15, rtol=1e-5)
    liked = bits_likelihood_loss(*arguments[:3], jnp.array([[False, True]]), 0.0)
    np.testing.assert_allclose(liked, -(np.log(0.3) + np.log(0.7)) / 2, rtol=1e-5)


def test_it_is_grpo_on_the_flat_bits():
    logits, frozen, bits, old = batch()
    advantages, mask = jnp.array([[1.0, 0.5, -2.0], [0.0, 1.0, -1.0]]), jnp.ones((2, 3), bool)
    flat = lambda x: x.reshape(2, 3, 20)
    want = grpo_loss(
        advantages,
        flat(bit_log_probs(logits, bits)),
        flat(old),
        flat(bit_kl(logits, frozen)),
        jnp.ones((2, 3, 20), bool),
        0.3,
    )
    got = bits_grpo_loss(logits, frozen, bits, old, advantages, mask, 0.3)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_at_the_sampling_policy_it_is_the_plain_policy_gradient():
    logits, frozen, bits, _ = batch()
    old = bit_log_probs(logits, bits)
    advantages, mask = jnp.array([[1.0, 0.0, -1.0]] * 2), jnp.ones((2, 3), bool)
    slope = jax.grad(bits_grpo_loss)(logits, frozen, bits, old, advantages, mask, 0.0)
    gain = lambda x: (advantages * bit_log_probs(x, bits).mean((-2, -1))).mean()
    np.testing.assert_allclose(slope, -jax.grad(gain)(logits), atol=1e-7)


def test_the_surrogate_is_the_official_update():
    """Groups that went through the official code, with given log-probs."""
    for case in goldens.facts("vargpt/11_grpo.json"):
        rewards, policy, reference = (
            jnp.array([case[name]]) for name in ("rewards", "policy_logprob", "reference_logprob")
        )
        if case["result"]["gen_grpo_skipped"]:
            continue
        mask = jnp.ones(rewards.shape, bool)
        loss = lambda x, r=rewards, y=reference, m=mask, c=case: surrogate_loss(
            x, y, group_advantages(r, m), m, c["kl_coef_before"], c["clip"]
        )
        value, slope = jax.value_and_grad(loss)(policy)
        np.testing.assert_allclose(value, case["result"]["gen_grpo_loss"], atol=2e-5)
        np.testing.assert_allclose(slope[0], case["grad_wrt_policy_logprob"], atol=2e-5)


def test_images_that_do_not_count_teach_nothing():
    logits, frozen, bits, old = batch()
    mask = jnp.array([[True, False, True], [False, False, False]])
    losses = (
        lambda x: bits_grpo_loss(x, frozen, bits, old, jnp.ones((2, 3)), mask, 0.1),
        lambda x: bits_likelihood_loss(x, frozen, bits, mask, 0.1),
    )
    for loss in losses:
        slope = jax.grad(loss)(logits)
        assert np.any(slope[mask]) and not np.any(slope[~mask])
    nothing = bits_grpo_loss(logits, frozen, bits, old, jnp.ones((2, 3)), mask & False, 0.1)
    assert nothing == 0
