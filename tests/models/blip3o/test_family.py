"""The tiny size: created, opened, small; the full size by name."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Sampler
from asg_jax.models.blip3o.backbone import Blip3oBackbone
from asg_jax.models.blip3o.family import FAMILY, SMALL
from asg_jax.models.checkpoint import paths
from asg_jax.models.registry import Pictures, family, open_model, small_family
from asg_jax.train.data.grammar import vocabulary

TINY = SMALL["blip3o-tiny"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder of the tiny size with random weights, as pre-training would write it."""
    folder = tmp_path_factory.mktemp("tiny")
    FAMILY.create("blip3o-tiny", folder, vocabulary())
    backbone = FAMILY.open(folder, "float32")[0].with_targets(True)
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.normal(0, 0.1, leaf.shape), leaf.dtype)
    stored = jax.tree.map(draw, backbone.abstract_base("bfloat16"))
    FAMILY.export(folder / "model", backbone, stored, folder)
    return folder / "model"


@pytest.fixture(scope="module")
def model(tiny):
    return open_model(str(tiny), "float32", targets=True)


@pytest.mark.slow
def test_the_tiny_folder_is_small_and_reads_back(tiny, model):
    """All five networks: language model, transformer, EVA-CLIP, UNet and autoencoder."""
    assert family("blip3o") is small_family("blip3o-tiny") is FAMILY and FAMILY.describes(tiny)
    files = [file for file in tiny.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    assert model.backbone == Blip3oBackbone(TINY) and FAMILY.stored_dtype(tiny) == "bfloat16"
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(model.base))
    assert {"language", "vision", "queries", "dit", "eva", "unet", "vae"} == set(model.base)
    processor = model.processor
    words = [word for word in vocabulary() if word.isalpha()]
    ids = processor.ids(" ".join([*words, "user", "assistant"]))
    assert len(set(ids)) == len(ids) == len(words) + 2
    assert processor.text(processor.question("what color?")) == "what color?"


def test_the_tiny_model_sees_draws_and_encodes_scenes(model):
    """Pictures of 32 x 32 pixels: 16 patches in, 16 features out, eight steps of the UNet."""
    backbone, params, run = model.backbone, Params(model.base), jax.eval_shape
    spec = backbone.spec
    assert (spec.max_grid, spec.token_pixels, TINY.decoding.steps) == ((4, 4), 8, 8)
    view = run(model.processor.view, jnp.zeros((2, 32, 32, 3)))
    assert run(backbone.encode_image, params, view).shape == (2, 4, 128)
    prompts = model.processor.prompt([["a red circle"], ["a green square"]], "draw").prompts
    sampler, keys = Sampler((4, 4), 8, 1.0, 2.0), jax.random.split(jax.random.key(0), (2, 3))
    condition = run(backbone.condition, params, prompts, keys[:, 0])
    state = run(lambda c: backbone.start(params, c, keys, sampler), condition)
    target = run(lambda c, s: backbone.preview(params, c, s, sampler), condition, state)
    assert run(backbone.pixels, params, condition, target, keys).shape == (2, 3, 32, 32, 3)
    encoded = run(lambda x: backbone.encode_target(params, x, None), jnp.zeros((2, 32, 32, 3)))
    assert encoded.values.shape == (2, *target.values.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize("stage", FAMILY.stages, ids=lambda stage: stage.name)
def test_the_loss_of_a_stage_reaches_every_parameter(model, stage):
    of_pixels, of_facts, of_loss = jax.random.split(jax.random.key(0), 3)
    shown = Pictures(
        jax.random.uniform(of_pixels, (2, 32, 32, 3)),
        jax.random.bernoulli(of_facts, shape=(2, 2, 2, 5)),
    )
    helper = stage.helper(model.backbone, 5, jax.random.key(1)) if stage.helper else {}

    def loss(part, helper):
        base = model.base | {stage.part: part}
        return stage.loss(model.backbone, base, shown, of_loss, 0.1, helper)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(model.base[stage.part], helper)
    # Scores of the attention are all that a bias of its keys cannot change.
    unseen = re.compile(r".*attn_1\.k\.bias")
    for path, leaf in [*paths(gradient[0]), *paths(gradient[1])]:
        assert float(jnp.abs(leaf).max()) > 0 or unseen.fullmatch(path), path


def test_an_absent_prompt_is_the_null_condition(model):
    """What guidance compares with is learned from pictures without prompts."""
    network = model.backbone.model(Params(model.base))
    prompts = model.processor.prompt([["a red circle"], []], "draw").prompts
    assert np.asarray(prompts.main.mask).any(1).tolist() == [True, False]
    told, null = jax.jit(network.captions)(prompts.main), jax.jit(network.null_caption)()
    np.testing.assert_allclose(told.pooled[1], null.pooled[0], atol=1e-5)
    np.testing.assert_allclose(told.values[:, 1], null.values[:, 0].repeat(16, 1), atol=1e-5)
    assert float(jnp.abs(told.pooled[0] - null.pooled[0]).max()) > 1e-3


def test_drawing_parameters_are_told_apart():
    """Those that only drawing uses learn at a rate of their own."""
    backbone, _ = FAMILY.random(TINY, "float32")
    found = {
        path.split(".")[0]
        for path, _ in paths(backbone.abstract_base())
        if re.search(FAMILY.draws, path)
    }
    assert found == {"dit", "queries"}


@pytest.mark.slow
def test_a_random_model_draws_and_sees():
    """The named size runs a prompt to pixels, in texts of bytes."""
    model = open_model("random:blip3o-4m")
    backbone, params = model.backbone, Params(model.base)
    assert sum(leaf.size for leaf in jax.tree.leaves(model.base)) < 5_000_000
    prompts = model.processor.prompt([["a red circle"]], "draw").prompts
    sampler, keys = Sampler((4, 4), 2, 1.0, 2.0), jax.random.split(jax.random.key(0), (1, 2))

    @jax.jit
    def draw(params, prompts, keys):
        condition = backbone.condition(params, prompts, keys[:, 0])
        state = backbone.start(params, condition, keys, sampler)
        for i in range(sampler.steps):
            state = backbone.step(params, condition, state, i, sampler)
        target = backbone.preview(params, condition, state, sampler)
        return backbone.pixels(params, condition, target, keys)

    pixels = draw(params, prompts, keys)
    assert pixels.shape == (1, 2, 32, 32, 3) and bool(jnp.isfinite(pixels).all())
    features = backbone.encode_image(params, model.processor.view(pixels[0]))
    assert features.shape == (2, 4, 128)
