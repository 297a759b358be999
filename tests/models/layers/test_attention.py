"""Attention against a float64 softmax in which every key is repeated for its heads and samples."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.models.layers.attention import CAUSAL, Block, attention

BATCH, SAMPLES, QUERIES, KEYS, HEADS, WIDTH = 2, 3, 7, 5, 4, 8
MASKS = {
    "none": None,
    "key": (BATCH, 1, 1, KEYS),
    "sample": (BATCH, SAMPLES, 1, KEYS),
    "query": (BATCH, 1, QUERIES, KEYS),
    "full": (BATCH, SAMPLES, QUERIES, KEYS),
}


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def make_block(rng, mask="none", shared=True, heads=2):
    """A block of keys, for all samples together or for each of them; its first key is visible."""
    shape = (BATCH, *(() if shared else (SAMPLES,)), KEYS, heads, WIDTH)
    seen = None if mask == "none" else jnp.asarray(rng.random(MASKS[mask]) < 0.5)
    if seen is not None:
        seen = seen.at[..., 0].set(True)
    return Block(normal(rng, *shape), normal(rng, *shape), seen)


def mask_of(block):
    assert isinstance(block.mask, jax.Array)
    return block.mask


def make_queries(rng):
    return normal(rng, BATCH, SAMPLES, QUERIES, HEADS, WIDTH)


def naive(queries, blocks):
    """The definition, in float64."""
    queries = np.asarray(queries, np.float64)

    def whole(x):
        x = np.asarray(x, np.float64)
        x = x if x.ndim == 5 else np.repeat(x[:, None], queries.shape[1], axis=1)
        return np.repeat(x, queries.shape[3] // x.shape[3], axis=3)

    def seen(block):
        mask = True if block.mask is None else np.asarray(block.mask)
        return np.broadcast_to(mask, (*queries.shape[:3], block.keys.shape[-3]))

    keys = np.concatenate([whole(block.keys) for block in blocks], axis=2)
    values = np.concatenate([whole(block.values) for block in blocks], axis=2)
    mask = np.concatenate([seen(block) for block in blocks], axis=-1)
    scores = np.einsum("bgthd,bgshd->bghts", queries, keys) / np.sqrt(queries.shape[-1])
    scores = np.where(mask[:, :, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bghts,bgshd->bgthd", weights, values)


def run(queries, blocks):
    """Attention, compiled as one function."""
    return jax.jit(lambda: attention(queries, blocks))()


def test_causal_is_the_mask_of_rows_before_and_the_own_one():
    rng = np.random.default_rng(0)
    shape = (BATCH, SAMPLES, QUERIES, 2, WIDTH)
    queries, keys, values = make_queries(rng), normal(rng, *shape), normal(rng, *shape)
    shared = make_block(rng, "key")
    mask = jnp.tril(jnp.ones((1, 1, QUERIES, QUERIES), bool))
    expected = naive(queries, [shared, Block(keys, values, mask)])
    found = run(queries, [shared, Block(keys, values, CAUSAL)])
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_blocks_share_one_softmax(kv_heads):
    """Blocks per prompt and per sample, under every form of mask."""
    rng = np.random.default_rng(kv_heads)
    queries, forms = make_queries(rng), itertools.product(sorted(MASKS), [True, False])
    blocks = [make_block(rng, mask, shared, kv_heads) for mask, shared in forms]
    np.testing.assert_allclose(run(queries, blocks), naive(queries, blocks), atol=2e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_a_block_alone(shared):
    rng = np.random.default_rng(0)
    queries, block = make_queries(rng), make_block(rng, "full", shared)
    np.testing.assert_allclose(run(queries, [block]), naive(queries, [block]), atol=2e-6)


def test_long_queries_are_taken_in_blocks(monkeypatch):
    """Neither values nor gradients change, whatever the mask; 3 does not divide 7 queries."""
    rng = np.random.default_rng(0)
    queries = make_queries(rng)
    kinds = [("none", True), ("key", False), ("query", True), ("full", False)]
    blocks = [make_block(rng, mask, shared) for mask, shared in kinds]
    weights = normal(rng, *queries.shape)
    kv = [(block.keys, block.values) for block in blocks]

    def attend(queries, kv):
        pairs = zip(blocks, kv, strict=True)
        return attention(queries, [b._replace(keys=k, values=v) for b, (k, v) in pairs])

    def value_and_gradients():
        out, pull_back = jax.vjp(lambda *inputs: attend(*inputs), queries, kv)
        return out, pull_back(weights)

    whole = jax.jit(lambda: value_and_gradients())()
    monkeypatch.setattr("asg_jax.models.layers.attention.QUERY_BLOCK", 3)
    assert "scan" in str(jax.make_jaxpr(lambda: attend(queries, kv))())
    chunked = jax.jit(lambda: value_and_gradients())()
    for ours, expected in zip(jax.tree.leaves(chunked), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, expected, atol=5e-6)


@pytest.mark.parametrize("rows", [1, 3, 14])  # a part of a sample's 7 queries, and two samples
def test_scores_of_all_samples_never_exist_together(monkeypatch, rows):
    rng = np.random.default_rng(0)
    queries = make_queries(rng)
    kinds = [("none", True), ("key", False), ("sample", True), ("full", False)]
    blocks = [make_block(rng, mask, shared) for mask, shared in kinds]
    budget = 4 * BATCH * HEADS * KEYS * len(blocks) * rows
    monkeypatch.setattr("asg_jax.models.layers.attention.SCORE_BYTES", budget)
    attend = lambda queries: attention(queries, blocks)
    np.testing.assert_allclose(jax.jit(attend)(queries), naive(queries, blocks), atol=2e-6)
    text = jax.jit(attend).lower(queries).as_text()
    scores = [shape.split("x") for shape in re.findall(r"-> tensor<([\dx]+)xf32>", text)]
    largest = max(math.prod(map(int, s)) for s in scores if s[-1] == str(KEYS * len(blocks)))
    assert 4 * largest <= budget


def test_hidden_keys_change_nothing():
    """Not even when they are large: their weight is exactly zero."""
    rng = np.random.default_rng(0)
    queries, block = make_queries(rng), make_block(rng, "query")
    hidden = jnp.concatenate([mask_of(block), jnp.zeros(MASKS["query"], bool)], axis=-1)
    pad = lambda x: jnp.concatenate([x, 1e6 * x], axis=1)
    padded = Block(pad(block.keys), pad(block.values), hidden)
    np.testing.assert_allclose(run(queries, [padded]), naive(queries, [block]), atol=2e-6)


def test_a_query_that_sees_nothing_stays_finite():
    """Its row may hold anything finite, and so may the gradients."""
    rng = np.random.default_rng(0)
    queries, block = make_queries(rng), make_block(rng, "query")
    nothing = block._replace(mask=mask_of(block).at[0, :, 2].set(False))

    def total(queries, keys):
        return jnp.sum(attention(queries, [nothing._replace(keys=keys)]) ** 2)

    value, gradients = jax.jit(jax.value_and_grad(total, (0, 1)))(queries, nothing.keys)
    assert all(jnp.isfinite(leaf).all() for leaf in (value, *gradients))


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_bfloat16_rounds_weights_and_output_only(scale):
    """Scores stay float32, so even sharp distributions err by no more than two roundings."""
    rng = np.random.default_rng(0)
    queries = (scale * make_queries(rng)).astype(jnp.bfloat16)
    blocks = [make_block(rng, "full"), make_block(rng, "key", shared=False)]
    half = lambda x: x.astype(jnp.bfloat16)
    blocks = [block._replace(keys=half(block.keys), values=half(block.values)) for block in blocks]
    out = run(queries, blocks)
    assert out.dtype == jnp.bfloat16
    largest = max(float(jnp.abs(block.values).max()) for block in blocks)
    error = np.abs(np.asarray(out, np.float64) - naive(queries, blocks)).max()
    assert error < 2**-8 * largest
