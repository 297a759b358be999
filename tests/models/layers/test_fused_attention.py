"""Fused kernels against the plain form, joined from blocks; the TPU's kernel is interpreted."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.models.layers.attention import CAUSAL, Block, attention, attention_kernel
from asg_jax.train.mesh import make_mesh

BATCH, HEADS, KV_HEADS, WIDTH = 2, 4, 2, 16


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def seen(rng, *shape):
    return jnp.asarray(rng.random(shape) < 0.7)


def make(rng, samples, length, prefix, mask):
    """Queries and their blocks: a prefix of the prompt (if any rows) and keys of each sample."""
    kv = lambda *lead: (normal(rng, *lead, KV_HEADS, WIDTH), normal(rng, *lead, KV_HEADS, WIDTH))
    queries = normal(rng, BATCH, samples, length, HEADS, WIDTH)
    blocks = [Block(*kv(BATCH, samples, length), mask)]
    if prefix:
        shown = seen(rng, BATCH, 1, 1, prefix).at[1].set(False)  # one prompt shows nothing
        blocks.insert(0, Block(*kv(BATCH, prefix), shown))
    return queries, blocks


def texts(rng):
    """Texts of each sample after a prompt; too short for a tile, so they go through XLA."""
    padding = seen(rng, BATCH, 24, 1, 6).at[..., 0].set(True)
    return make(rng, 24, 6, 130, jnp.tril(jnp.ones((6, 6), bool)) & padding)


def long_texts(rng):
    padding = seen(rng, BATCH, 2, 1, 130).at[..., 0].set(True)
    return make(rng, 2, 130, 200, jnp.tril(jnp.ones((130, 130), bool)) & padding)


def mixed_context(rng):
    """A picture's rows see each other, what stands before and after is causal."""
    order = np.concatenate([np.arange(40), np.full(150, 40), np.arange(41, 107)])
    return make(rng, 1, 256, 0, jnp.asarray(order <= order[:, None])[None, None])


def picture(rng):
    """Latents of each sample see all of each other after a prompt."""
    return make(rng, 2, 132, 128, None)


def tower(rng):
    return make(rng, 1, 256, 0, seen(rng, BATCH, 1, 1, 256))


def causal_texts(rng):
    return make(rng, 2, 130, 200, CAUSAL)


def short_causal_texts(rng):
    return make(rng, 24, 6, 130, CAUSAL)


CASES = [texts, long_texts, mixed_context, picture, tower, causal_texts, short_causal_texts]
SLOW = {long_texts: pytest.mark.slow}


def run(queries, blocks, cotangent, kernel):
    """Output, and gradients of queries, keys and values."""

    def attend(queries, pairs):
        masked = zip(pairs, blocks, strict=True)
        with attention_kernel(kernel):
            return attention(queries, [Block(k, v, block.mask) for (k, v), block in masked])

    def both(queries, pairs):
        out, pull_back = jax.vjp(attend, queries, pairs)
        return out, pull_back(cotangent)

    return jax.jit(both)(queries, [block[:2] for block in blocks])


def differences(case, dtype):
    """Largest distances of the fused kernel, in units of each result's largest number."""
    rng = np.random.default_rng(0)
    queries, blocks = case(rng)
    half = lambda x: x.astype(dtype)
    blocks = [Block(half(b.keys), half(b.values), b.mask) for b in blocks]
    cotangent = half(normal(rng, *queries.shape))
    plain, fused = (run(half(queries), blocks, cotangent, k) for k in ("xla", "splash"))
    distance = lambda x, y: float(jnp.abs(half(x) - half(y)).max() / jnp.abs(x).max())
    return jax.tree.leaves(jax.tree.map(distance, plain, fused))


@pytest.mark.parametrize("case", [pytest.param(case, marks=SLOW.get(case, ())) for case in CASES])
def test_values_and_gradients_are_those_of_the_plain_form(case):
    assert max(differences(case, jnp.float32)) < 2e-6


@pytest.mark.slow
def test_bfloat16_differs_by_roundings():
    assert max(differences(long_texts, jnp.bfloat16)) < 2**-6


def test_a_mesh_cuts_sequences_and_heads():
    rng = np.random.default_rng(0)
    queries, blocks = picture(rng)
    cotangent = normal(rng, *queries.shape)
    whole = run(queries, blocks, cotangent, "splash")
    with jax.set_mesh(make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])):
        cut = run(queries, blocks, cotangent, "splash")
    for x, y in zip(jax.tree.leaves(cut), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_the_kernels_of_tpus_are_loaded_on_tpus_alone():
    """Loading them takes time, and inside a trace it makes JAX compile the program twice."""
    script = (
        "import sys; from asg_jax.models.layers.attention import load_kernels; load_kernels(); "
        "sys.exit('asg_jax.models.layers.splash_attention' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
