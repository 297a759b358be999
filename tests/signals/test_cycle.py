"""Embeddings and similarities."""

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.signals.cycle import cycle_score, embedding, likelihood_similarity, similarity

STATES = jax.random.normal(jax.random.key(0), (2, 3, 8))
MASK = jnp.array([[True, True, False], [True, True, True]])


def test_embeddings_are_of_length_one_and_ignore_padding():
    rows = embedding(STATES, MASK)
    np.testing.assert_allclose(jnp.linalg.norm(rows, axis=-1), 1, rtol=1e-6)
    junk = jnp.where(MASK[..., None], STATES, jnp.nan)
    np.testing.assert_array_equal(embedding(junk, MASK), rows)


def test_embeddings_of_low_precision_states_are_float32():
    assert embedding(STATES.astype(jnp.bfloat16), MASK).dtype == jnp.float32


def test_nothing_to_embed_resembles_nothing():
    empty = embedding(STATES, MASK & False)
    np.testing.assert_array_equal(similarity(empty, embedding(STATES, MASK)), 0)


def test_similarity_is_a_cosine_cut_at_zero():
    rows = embedding(STATES, MASK)
    np.testing.assert_allclose(similarity(rows, rows), 1, rtol=1e-6)
    np.testing.assert_array_equal(similarity(rows, -rows), 0)
    np.testing.assert_allclose(cycle_score(similarity(rows, rows), similarity(rows, -rows)), 0.5)


def test_the_likelier_image_is_the_more_similar():
    scores = jnp.array([[-1.0, -2.0, 50.0], [-1.5, -1.5, -1.5]])
    got = likelihood_similarity(scores, jnp.array([[True, True, False], [True, True, True]]))
    assert got[0, 0] > 0.5 > got[0, 1]
    np.testing.assert_allclose(got[0, :2].mean(), 0.5)
    np.testing.assert_allclose(got[1], 0.5)
    near = likelihood_similarity(jnp.array([-1.0, -1.1]), jnp.array([True, True]))
    np.testing.assert_allclose(near, jax.nn.sigmoid(jnp.array([0.5, -0.5])), rtol=1e-5)
