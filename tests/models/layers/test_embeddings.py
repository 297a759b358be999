"""Fixed embeddings against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from asg_jax.models.layers.embeddings import TimestepEmbedding, sincos_2d, sinusoid


def test_the_table_encodes_the_column_first_and_sines_first():
    side, width = 3, 8
    table = sincos_2d(side, width)
    frequencies = np.array([1.0, 10000**-0.5])
    for row in range(side):
        for column in range(side):
            parts = [f(p * frequencies) for p in (column, row) for f in (np.sin, np.cos)]
            entry = table[row * side + column]
            np.testing.assert_allclose(entry, np.concatenate(parts), atol=1e-6)


def test_times_are_encoded_cosines_first():
    t = jnp.array([[0.0, 0.25], [0.5, 1.0]])
    frequencies = 10000.0 ** (-np.arange(3) / 3)
    angles = np.asarray(t, np.float64)[..., None] * frequencies
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    np.testing.assert_allclose(sinusoid(t, 6), expected, atol=1e-6)


def test_close_times_differ_in_bfloat16_too():
    """The sinusoid is computed in float32, whatever the dtype of the result."""
    embedding = TimestepEmbedding(4, features=6, rngs=nnx.Rngs(0))
    times = jnp.array([0.5, 1.0])
    embedded, wanted = jax.jit(lambda t: (embedding(t, "bfloat16"), embedding(t)))(times)
    assert embedded.dtype == jnp.bfloat16
    assert wanted.dtype == jnp.float32
    np.testing.assert_allclose(np.float32(embedded), wanted, atol=0.03)
