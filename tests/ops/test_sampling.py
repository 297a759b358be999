"""The truncated sampling distribution, against sorting in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.ops.sampling import gumbel, truncate

VOCABULARY = 12
compiled = jax.jit(truncate)


def by_sorting(logits, temperature, top_k, top_p):
    """Tokens kept, their distribution in float64, how far p is from the next cumulative sum."""
    scaled = logits * (1 / max(temperature, np.float32(1e-5)))  # as XLA divides by a scalar
    ordered = np.sort(np.float64(scaled))[::-1]
    rank = np.arange(len(ordered))
    kept = (rank < top_k) | (top_k <= 0)
    weights = np.where(kept, np.exp(ordered - ordered[0]), 0)
    cumulative = np.cumsum(weights) / weights.sum()
    margin = 1.0
    if 0 < top_p < 1:
        kept &= (cumulative <= top_p) | (rank == 0)
        margin = np.abs(cumulative - top_p).min()
    kept = np.float64(scaled) >= ordered[kept].min()
    weights = np.where(kept, np.exp(np.float64(scaled) - ordered[0]), 0)
    return kept, weights / weights.sum(), margin


# Few distinct values, so that many tokens tie; zeros of both signs among them.
logits = st.one_of(
    arrays(np.float32, VOCABULARY, elements=st.floats(-30, 30, width=32, allow_subnormal=False)),
    arrays(np.float32, VOCABULARY, elements=st.sampled_from([-2.0, -0.0, 0.0, 0.5, 3.0])),
)


@settings(max_examples=200)
@given(
    logits,
    st.floats(0, 3, width=32, allow_subnormal=False),
    st.integers(0, VOCABULARY + 2),
    st.floats(0, 1, width=32, allow_subnormal=False),
)
@example(np.array([25.1875] + [25.125] * 11, np.float32), 0.09375, 0, 0.0)
def test_truncate_equals_sorting(logits, temperature, top_k, top_p):
    kept, want, margin = by_sorting(logits, np.float32(temperature), top_k, top_p)
    assume(margin > 1e-5)
    got = compiled(logits, np.float32(temperature), np.int32(top_k), np.float32(top_p))
    np.testing.assert_array_equal(np.isfinite(got), kept)
    np.testing.assert_allclose(np.exp(got), want, atol=2e-6)


def test_a_nucleus_that_is_met_exactly_keeps_all_of_it():
    weights = jnp.array([4.0, 2.0, 1.0, 1.0])
    kept = lambda p: jnp.isfinite(compiled(jnp.log2(weights) * jnp.log(2.0), 1.0, 0, p)).tolist()
    assert kept(0.875) == [True] * 4
    assert kept(0.75) == [True, True, False, False]
    assert kept(0.74) == [True, False, False, False]


def test_rows_have_their_own_settings():
    logits = np.random.default_rng(0).normal(0, 2, (2, 3, VOCABULARY)).astype(np.float32)
    temperature = np.linspace(0.5, 1.5, 6, dtype=np.float32).reshape(2, 3)
    top_k = np.array([[0, 1, 5]] * 2)
    top_p = np.array([[1.0, 0.9, 0.6], [0.0, 0.3, 0.99]], np.float32)
    together = compiled(logits, temperature, top_k, top_p)
    for place in np.ndindex(2, 3):
        _, want, _ = by_sorting(*(x[place] for x in (logits, temperature, top_k, top_p)))
        np.testing.assert_allclose(np.exp(together[place]), want, atol=2e-6)


@pytest.mark.parametrize("top_k, top_p", [(None, 1.0), (0, None), (None, None)])
def test_absent_setting_is_the_one_that_keeps_all(top_k, top_p):
    logits = np.random.default_rng(1).normal(0, 2, VOCABULARY).astype(np.float32)
    scalar = lambda x: None if x is None else jnp.asarray(x)
    got = compiled(logits, jnp.float32(0.7), scalar(top_k), scalar(top_p))
    weights = np.exp(logits / 0.7)
    np.testing.assert_allclose(np.exp(got), weights / weights.sum(), atol=2e-6)


def test_vocabulary_is_not_sorted():
    logits, ones = jnp.zeros((2, VOCABULARY)), jnp.ones(2)
    assert "sort" not in str(jax.make_jaxpr(truncate)(logits, ones, ones.astype(int), ones))


def test_gumbel_noise():
    """Moments of a million numbers, and their largest: many distinct values, all finite."""
    noise = np.asarray(jax.jit(gumbel, static_argnums=1)(jax.random.key(0), 10**6))
    assert np.isfinite(noise).all()
    assert abs(noise.mean() - np.euler_gamma) < 0.006  # 4 standard errors and more
    assert abs(noise.var() - np.pi**2 / 6) < 0.02
    assert len(np.unique(noise[noise > 9])) >= (noise > 9).sum() - 1 > 50
