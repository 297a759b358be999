"""The decoder: input rows, two experts, order of storage, half precision."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asg_jax.backbone import Prompt
from asg_jax.models.layers.context import states, visible
from asg_jax.models.layers.language import LanguageConfig, LanguageModel

CONFIG = LanguageConfig(
    vocabulary=24,
    width=16,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=8,
    inner=24,
    theta=100.0,
    eps=1e-6,
)
PICTURE = 3  # rows of the picture at the start of every context


@cache
def make_model(**changes):
    """A small decoder; NumPy draws its weights, as compiling JAX's draws would take seconds."""
    make = lambda: LanguageModel(replace(CONFIG, **changes), rngs=nnx.Rngs(0))
    graph, state = nnx.split(nnx.eval_shape(make))
    rng = np.random.default_rng(0)

    def draw(leaf):
        scale = leaf.shape[-2] ** -0.5 if leaf.ndim > 1 else 1.0
        return jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)

    return nnx.merge(graph, jax.tree.map(draw, state))


def contexts(texts, length, rng):
    """A picture, then texts, as a batch; padding rows hold anything that is valid.

    Args:
      texts: token ids of each context.
      length: rows of the text after padding.
      rng: fills the padding.
    """
    batch, rows = len(texts), PICTURE + length
    ids = rng.integers(0, CONFIG.vocabulary, (batch, rows))
    positions, order = rng.integers(0, 9, (2, batch, rows))
    mask = np.zeros((batch, rows), bool)
    slot = np.full((batch, rows), -1)
    slot[:, :PICTURE] = range(PICTURE)
    positions[:, :PICTURE] = order[:, :PICTURE] = 0
    for n, text in enumerate(texts):
        end = PICTURE + len(text)
        ids[n, PICTURE:end] = text
        positions[n, PICTURE:end] = order[n, PICTURE:end] = 1 + np.arange(len(text))
        mask[n, :end] = True
    features = np.random.default_rng(0).normal(size=(batch, PICTURE, CONFIG.width)) * 0.05
    rows = map(jnp.asarray, (ids, slot, positions[..., None], order, mask))
    return Prompt(*rows, features=jnp.asarray(features, jnp.float32))


def some_text(rng, length):
    return rng.integers(0, CONFIG.vocabulary, length).tolist()


@pytest.fixture(scope="module")
def prompt():
    rng = np.random.default_rng(1)
    return contexts([some_text(rng, 5), some_text(rng, 2)], 5, rng)


def test_a_row_is_a_feature_or_a_token(prompt):
    """Latent rows come last and travel in the second stream."""
    prompt = replace(prompt, slot=prompt.slot.at[0, -1].set(1), latents=2)
    model = make_model()
    text, latents = model.rows(prompt)
    assert latents.shape == (2, 1, 2, CONFIG.width)
    rows = np.concatenate([text, latents], axis=2)[:, 0]
    expected = np.array(model.embed_tokens.table[...])[np.asarray(prompt.ids)]
    expected[:, :PICTURE] = prompt.features
    expected[0, -1] = prompt.features[0, 1]
    np.testing.assert_array_equal(rows, expected)


def test_the_order_of_storage_means_nothing(prompt):
    """Permuted rows have permuted states: visibility and place are data."""
    model = make_model()
    run = jax.jit(lambda prompt: states(model, prompt))
    permutation = np.random.default_rng(0).permutation(prompt.ids.shape[1])
    move = lambda x: x[:, permutation]
    features, mask = prompt.features, np.asarray(move(prompt.mask))
    moved = replace(jax.tree.map(move, replace(prompt, features=None)), features=features)
    expected = np.asarray(move(run(prompt)))
    np.testing.assert_allclose(np.asarray(run(moved))[mask], expected[mask], atol=2e-6)


def test_bfloat16_stays_close_to_float32(prompt):
    """Two layers err by a few roundings of the normed states, which are of size one."""
    models = [make_model(dtype=dtype) for dtype in ("float32", "bfloat16")]
    full, half = (jax.jit(lambda p, m=model: states(m, p))(prompt) for model in models)
    assert half.dtype == jnp.bfloat16
    error = np.abs(np.asarray(half, np.float32) - full)[np.asarray(prompt.mask)]
    assert error.max() < 0.1 and error.mean() < 0.02
    assert error.max() > 1e-4  # it did compute in bfloat16


def test_an_empty_second_stream_is_as_good_as_none(prompt):
    model = make_model(experts=2, qk_norm=True)
    (text,) = model.rows(prompt)
    run = jax.jit(lambda *s: model(s, prompt.positions[:, None], visible(prompt)))
    (alone,), kv_alone = run(text)
    (hidden, empty), kv = run(text, text[:, :, :0])
    assert empty.shape[2] == 0
    for ours, expected in zip((hidden, *kv), (alone, *kv_alone), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
