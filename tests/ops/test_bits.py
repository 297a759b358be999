"""Single bits: numbers by hand, and what holds for all logits."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.ops.bits import bit_entropy, bit_kl, bit_log_probs

few = settings(max_examples=25)
logits = arrays(np.float32, (3, 2), elements=st.floats(-30, 30, width=32))
odds = lambda share: jnp.log(jnp.array([1 - share, share]))


def test_numbers_by_hand():
    policy, reference = odds(0.8), odds(0.5)
    np.testing.assert_allclose(bit_log_probs(policy, jnp.int32(1)), np.log(0.8), rtol=1e-6)
    np.testing.assert_allclose(bit_log_probs(policy + 7, jnp.int32(0)), np.log(0.2), rtol=1e-6)
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    np.testing.assert_allclose(bit_entropy(policy), entropy, rtol=1e-6)
    np.testing.assert_allclose(bit_kl(policy, reference), np.log(2) - entropy, rtol=1e-6)


@few
@given(logits, logits)
def test_probabilities_sum_to_one_and_divergences_are_positive(policy, reference):
    policy, reference = jnp.asarray(policy), jnp.asarray(reference)
    both = [bit_log_probs(policy, jnp.full(3, bit)) for bit in (0, 1)]
    np.testing.assert_allclose(jnp.exp(both[0]) + jnp.exp(both[1]), 1, rtol=1e-5)
    assert np.all(bit_kl(policy, reference) >= -1e-5)
    np.testing.assert_array_equal(bit_kl(policy, policy), 0)
    assert np.all(bit_entropy(policy) <= np.log(2) + 1e-6)


def test_certain_bits_have_finite_gradients():
    certain = jnp.array([[1e4, -1e4], [0.0, 200.0]])
    slope = jax.grad(lambda x: (bit_entropy(x) + bit_kl(x, jnp.zeros((2, 2)))).sum())(certain)
    assert np.isfinite(slope).all()
