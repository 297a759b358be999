"""Masked means."""

import jax.numpy as jnp
import numpy as np

from asg_jax.ops.masked import masked_mean, sequence_means

X = jnp.array([[1.0, 3.0, np.nan], [np.inf, np.nan, -np.inf]])
MASK = jnp.array([[True, True, False], [False, False, False]])


def test_only_what_is_kept_counts():
    assert masked_mean(X, MASK) == 2
    np.testing.assert_array_equal(masked_mean(X, MASK, axis=-1, empty=-1.0), [2, -1])


def test_masks_broadcast():
    assert masked_mean(X[:1, :2], MASK[:1, :1]) == 2
    np.testing.assert_array_equal(masked_mean(X, MASK[:, :1], axis=0), [1, 3, np.nan])


def test_a_sequence_without_tokens_is_not_kept():
    means, kept = sequence_means(X, MASK)
    assert kept.tolist() == [True, False]
    assert masked_mean(means, kept) == 2
