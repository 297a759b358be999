"""The same numbers on one device and on eight, in both styles, with whole and cut parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PIL

from asg_jax.adapters import init_roles
from asg_jax.backbone import FlowTrace, Params, Sampler, encode
from asg_jax.errors import UserError
from asg_jax.models.registry import open_model
from asg_jax.models.sharding import shardings
from asg_jax.ops.bits import bit_log_probs
from asg_jax.rollout.image import sample_images, trace_log_probs
from asg_jax.rollout.text import Texts, TextSampler, sample_text, score
from asg_jax.train.mesh import make_mesh, parallelize
from tests import goldens
from tests.models.vargpt.golden import make_folder

EXAMPLES, SAMPLES, TOKENS = 8, 2, 6
SAMPLER = Sampler(grid=(2, 2), steps=3, guidance=4.0)
NOISY = Sampler(grid=(2, 2), steps=3, guidance=1.0, noise_level=0.5)


@pytest.fixture(scope="module", params=["bagel", "vargpt"])
def model(request, tmp_path_factory):
    if request.param == "bagel":
        return open_model(str(goldens.folder("bagel/model")))
    return open_model(str(make_folder(tmp_path_factory.mktemp("vargpt"))), "float32")


@pytest.fixture(scope="module")
def params(model):
    """The base with a solver adapter whose second factors are not zero."""
    adapter = init_roles(jax.random.key(1), model.base, model.family.roles)["solver"]
    adapter = jax.tree.map(
        lambda x: x + 0.02 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), adapter
    )
    return Params(model.base, adapter)


@pytest.fixture(scope="module")
def text_batch(model):
    """Pictures with a question each, of different lengths, and what sampling needs."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (EXAMPLES, 28, 28, 3), np.uint8)
    questions = ["why?", "what is it, exactly?"] * (EXAMPLES // 2)
    turns = [[PIL.fromarray(p), q] for p, q in zip(pixels, questions, strict=True)]
    nothing = np.zeros((EXAMPLES, SAMPLES, 0), np.int32)
    return {
        "request": model.processor.prompt(turns, "answer"),
        "ids": nothing,
        "mask": nothing.astype(bool),
        "keys": jax.random.split(jax.random.key(0), (EXAMPLES, SAMPLES)),
        "temperature": np.full((EXAMPLES, SAMPLES), 0.9, np.float32),
    }


@pytest.fixture(scope="module")
def image_batch(model):
    prompts = [["a red kite"], ["two cups"]] * (EXAMPLES // 2)
    return {
        "request": model.processor.prompt(prompts, "draw"),
        "keys": jax.random.split(jax.random.key(0), (EXAMPLES, SAMPLES)),
    }


def text_step(backbone, stop_ids, params, batch):
    """A rollout with its entropies, and a reward: the mean log-prob under teacher forcing."""
    prompt = encode(backbone, params, batch["request"]).main
    sampler = TextSampler(batch["temperature"], TOKENS, stop_ids)
    ids, mask = batch["ids"], batch["mask"]
    prefix = backbone.prefill(params, prompt)
    rollout = sample_text(backbone, params, prefix, ids, mask, batch["keys"], sampler)
    before = Texts(ids, mask)
    scored = score(backbone, params, prompt, before, rollout.texts, rollout.temperature)
    reward = scored.log_prob.sum(-1) / rollout.mask.sum(-1)
    return {"rollout": rollout, "reward": reward, "entropy": scored.entropy}


def image_step(backbone, params, batch):
    """Pictures (those of a flow with guidance), and the log-probs of a stochastic rollout."""
    prompts, keys = encode(backbone, params, batch["request"]), batch["keys"]
    condition = backbone.condition(params, prompts, keys[:, 0])
    kind, grids = backbone.spec.kind, backbone.spec.grids
    sampler = SAMPLER if kind == "flow" else Sampler(grids[0], guidance=1.0)
    drawn = sample_images(backbone, params, condition, keys, sampler)
    target = backbone.preview(params, condition, drawn, sampler)
    if kind == "flow":
        trace = sample_images(backbone, params, condition, keys, NOISY).trace
        assert isinstance(trace, FlowTrace)
        scored = jnp.moveaxis(trace_log_probs(backbone, params, condition, trace, NOISY), 0, -1)
    else:
        terms = backbone.terms(params, condition, target, None)
        scored = bit_log_probs(terms.logits, terms.bits)
    return {"pixels": backbone.pixels(params, condition, target, keys), "log_probs": scored}


SETTINGS = {
    "mesh": ("mesh", {}),
    "pmap": ("pmap", {}),
    "fsdp": ("mesh", {"fsdp": 8}),
    "tensor": ("mesh", {"fsdp": 2, "tensor": 2}),
}
CASES = [
    *(("bagel", setting) for setting in SETTINGS),
    ("vargpt", "mesh"),
    *(pytest.param("vargpt", s, marks=pytest.mark.slow) for s in SETTINGS if s != "mesh"),
]


def place(model, params, mesh):
    """Parameters cut over a mesh by the backbone's rules; adapters whole."""
    base = jax.device_put(params.base, shardings(params.base, mesh, model.family.rules))
    return Params(base, params.adapter)


@pytest.fixture(scope="module")
def alone(model, params, text_batch, image_batch):
    """Both steps on one device."""
    text = partial(text_step, model.backbone, model.processor.stop_ids)
    image = partial(image_step, model.backbone)
    return jax.jit(text)(params, text_batch), jax.jit(image)(params, image_batch)


@pytest.mark.parametrize(("model", "setting"), CASES, indirect=["model"])
def test_text_rollouts_agree(model, params, text_batch, alone, setting):
    style, axes = SETTINGS[setting]
    mesh = make_mesh(**axes)
    step = partial(text_step, model.backbone, model.processor.stop_ids)
    given = params if style == "pmap" else place(model, params, mesh)
    got, want = parallelize(step, mesh, style)(given, text_batch), alone[0]
    np.testing.assert_array_equal(got["rollout"].ids, want["rollout"].ids)
    np.testing.assert_array_equal(got["rollout"].mask, want["rollout"].mask)
    np.testing.assert_allclose(got["rollout"].log_probs, want["rollout"].log_probs, atol=1e-4)
    np.testing.assert_allclose(got["entropy"], want["entropy"], atol=1e-4)
    np.testing.assert_allclose(got["reward"], want["reward"], rtol=1e-4)


@pytest.mark.parametrize(("model", "setting"), CASES, indirect=["model"])
def test_image_rollouts_agree(model, params, image_batch, alone, setting):
    style, axes = SETTINGS[setting]
    mesh = make_mesh(**axes)
    given = params if style == "pmap" else place(model, params, mesh)
    got = parallelize(partial(image_step, model.backbone), mesh, style)(given, image_batch)
    np.testing.assert_allclose(got["pixels"], alone[1]["pixels"], atol=2e-4)
    np.testing.assert_allclose(got["log_probs"], alone[1]["log_probs"], atol=1e-4)
    cut = EXAMPLES * mesh.shape["tensor"] // mesh.size  # the batch is cut over the other axes
    assert {shard.data.shape[0] for shard in got["pixels"].addressable_shards} == {cut}


def test_a_batch_that_the_mesh_does_not_divide_runs_all_the_same(model, params):
    mesh = make_mesh(fsdp=4)
    request = model.processor.prompt([["a red kite"]], "embed")
    states = jax.jit(model.backbone.states)
    want = states(params, request.prompts.main)
    with jax.set_mesh(mesh):
        got = states(place(model, params, mesh), request.prompts.main)
    np.testing.assert_allclose(got, want, atol=5e-5)


def test_the_same_devices_give_the_same_bits(model, params, text_batch):
    step = partial(text_step, model.backbone, model.processor.stop_ids)
    run = parallelize(step, make_mesh())
    first, second = run(params, text_batch), run(params, text_batch)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_mesh_takes_all_devices():
    mesh = make_mesh(fsdp=2, tensor=2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    with pytest.raises(UserError, match="8 devices cannot be cut into fsdp=3"):
        make_mesh(fsdp=3)
