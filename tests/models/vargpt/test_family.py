"""The tiny size: created, opened, pre-trainable, small; the full size by name."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Sampler
from asg_jax.models.checkpoint import paths
from asg_jax.models.registry import FAMILIES, Pictures, family, small_family
from asg_jax.models.vargpt.family import FAMILY, SMALL
from asg_jax.train.data.grammar import vocabulary
from tests.models.loaded import row_keys

TINY = SMALL["vargpt-tiny"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder of the tiny size with random weights, as pre-training would write it."""
    folder = tmp_path_factory.mktemp("tiny")
    FAMILY.create("vargpt-tiny", folder, vocabulary())
    backbone, _ = FAMILY.open(folder, "float32")
    base = jax.jit(backbone.init_base)(jax.random.key(0))
    cast = lambda leaf, like: leaf.astype(like.dtype)
    stored = jax.tree.map(cast, base, backbone.abstract_base("bfloat16"))
    FAMILY.export(folder / "model", backbone, stored, folder)
    return folder / "model"


def test_the_family_is_registered():
    assert "vargpt" in FAMILIES
    assert family("vargpt") is FAMILY and small_family("vargpt-tiny") is FAMILY


@pytest.mark.slow
def test_the_tiny_folder_is_small_and_reads_back(tiny):
    assert FAMILY.describes(tiny)
    assert sum(file.stat().st_size for file in tiny.iterdir()) <= 8_000_000
    backbone, processor = FAMILY.open(tiny, "float32")
    assert backbone.config == TINY and FAMILY.stored_dtype(tiny) == "bfloat16"
    base = FAMILY.load(tiny, "float32", None)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(base))
    words = [word for word in vocabulary() if word.isalpha()]
    ids = processor.ids(" ".join([*words, "user", "assistant"]))
    assert len(set(ids)) == len(ids) == len(words) + 2
    assert processor.text(processor.question("what color?")) == "what color?"


def test_the_tiny_model_draws_and_sees_scenes(tiny):
    """Pictures of 32 x 32 pixels: 16 patches in, four scales of bits out."""
    backbone, processor = FAMILY.open(tiny, "float32")
    spec = backbone.spec
    assert (spec.max_grid, spec.token_pixels, spec.steps) == ((4, 4), 8, 4)
    view = jax.eval_shape(processor.view, jnp.zeros((2, 32, 32, 3)))
    assert view.patches.shape == (2, 16, 192)
    params = Params(backbone.abstract_base("float32"))
    rows = jax.eval_shape(backbone.encode_image, params, view)
    assert rows.shape == (2, 4, 128)
    request = processor.prompt([["a red circle"], []], "draw")
    made = jax.eval_shape(backbone.condition, params, request.prompts, row_keys(request.prompts))
    sampler, keys = Sampler((4, 4), guidance=2.0), jax.random.split(jax.random.key(0), (2, 3))
    state = jax.eval_shape(lambda c: backbone.start(params, c, keys, sampler), made)
    assert state.trace.bits.shape == (2, 3, 37, 8)


@pytest.mark.slow
def test_the_autoencoder_loss_teaches_pictures_and_bits(tiny):
    """A few steps of plain descent lower it; every parameter of the tokenizer has a gradient."""
    backbone, _ = FAMILY.open(tiny, "float32")
    base = FAMILY.load(tiny, "float32", None)
    pixels = jax.random.uniform(jax.random.key(0), (4, 1, 1, 3)) * jnp.ones((4, 32, 32, 3))
    pictures = Pictures(pixels, jnp.zeros((4, 2, 2, 1), bool))

    @jax.jit
    def step(vae):
        loss = lambda vae: FAMILY.stages[0].loss(
            backbone, base | {"vae": vae}, pictures, jax.random.key(0), 0.1, {}
        )
        value, gradient = jax.value_and_grad(loss)(vae)
        return value, gradient, jax.tree.map(lambda x, g: x - 3e-3 * g, vae, gradient)

    vae = base["vae"]
    first, gradient, vae = step(vae)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))
    last = first
    for _ in range(10):
        last, _, vae = step(vae)
    assert float(last) < float(first)


def test_drawing_parameters_are_told_apart():
    """Those that only drawing uses learn at a rate of their own."""
    backbone, _ = FAMILY.random(TINY, "float32")
    found = {
        path.split(".")[0]
        for path, _ in paths(backbone.abstract_base())
        if re.search(FAMILY.draws, path)
    }
    assert found == {"decoder", "to_language", "from_language"}


def test_the_full_size_runs_its_protocol_in_shapes():
    """Square pictures of 512 pixels, ten scales, without allocating anything."""
    backbone, processor = FAMILY.random(FAMILY.sizes["vargpt-7b"], "bfloat16")
    params = Params(backbone.abstract_base())
    prompts = processor.prompt([["a kite"]], "draw").prompts
    made = jax.eval_shape(backbone.condition, params, prompts, row_keys(prompts))
    sampler, keys = Sampler((32, 32), guidance=3.0), jax.random.split(jax.random.key(0), (1, 2))
    state = jax.eval_shape(lambda c: backbone.start(params, c, keys, sampler), made)
    assert state.inner.language[0].shape == (28, 2, 2, 2521, 4, 128)
    for scale in range(backbone.spec.steps):
        run = lambda p, c, s, n=scale: backbone.step(p, c, s, n, sampler)
        after = jax.eval_shape(run, params, made, state)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        state = after
    target = jax.eval_shape(lambda p, c, s: backbone.preview(p, c, s, sampler), params, made, state)
    terms = jax.eval_shape(lambda p, c, t: backbone.terms(p, c, t, None), params, made, target)
    assert terms.logits.shape == (1, 2, 2521, 32, 2) and terms.logits.dtype == np.float32
