"""Drawing: what is sampled is what is scored, guidance, absent prompts, independence of samples."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as PIL

from asg_jax.adapters import init
from asg_jax.backbone import Backbone, BitsTrace, Params, Prompts, Sampler, Target, encode
from asg_jax.models.tokenizers import ByteTokenizer
from asg_jax.models.vargpt import drawing
from asg_jax.models.vargpt.adapters import ROLES
from asg_jax.models.vargpt.backbone import entering
from asg_jax.models.vargpt.processor import VargptProcessor
from asg_jax.rollout.image import draw_pictures, sample_images
from tests.models.loaded import row_keys
from tests.models.vargpt.golden import facts, grid

TEXTS = [["a red kite"], ["two small blue squares on a table"], []]  # the last one is absent


@pytest.fixture(scope="module")
def plain() -> Sampler:
    """Square pictures without guidance."""
    return Sampler(grid("sq"), guidance=1.0)


@pytest.fixture(scope="module")
def shape(vargpt):
    """Bits and channels of a square picture."""
    return vargpt.schedule("sq").length, vargpt.backbone.config.vae.bits


@pytest.fixture(scope="module")
def processor(vargpt):
    config = vargpt.backbone.config
    return VargptProcessor(config, ByteTokenizer(config.tokens.specials()))


@pytest.fixture(scope="module")
def condition(vargpt, processor):
    return conditioned(vargpt, processor, TEXTS)


def conditioned(vargpt, processor, turns):
    prompts = processor.prompt(turns, "draw").prompts
    return vargpt.jit("condition")(prompts, row_keys(prompts))


def keys(batch, samples):
    return jax.random.split(jax.random.key(1), (batch, samples))


@pytest.fixture(scope="module")
def sample(vargpt):
    """`sample_images`, compiled."""
    run = jax.jit(partial(sample_images, vargpt.backbone), static_argnums=3)
    return partial(run, vargpt.params)


def score(vargpt, params, condition, values, sampler=None):
    terms = vargpt.backbone.terms(params, condition, Target(values, grid("sq")), None, sampler)
    log_probs = jax.nn.log_softmax(terms.logits)
    return jnp.take_along_axis(log_probs, terms.bits[..., None], axis=-1)[..., 0]


def test_it_is_a_backbone(vargpt):
    assert isinstance(vargpt.backbone, Backbone)
    spec, vae = vargpt.backbone.spec, facts()["vae"]
    assert (spec.kind, spec.unrolled, spec.axes) == ("bits", True, 3)
    assert spec.steps == len(vargpt.schedule("sq").grids)
    assert (spec.token_pixels, spec.token_channels) == (vae["patch_size"], vae["codebook_dim"])
    assert spec.max_grid == grid("sq")


def test_it_draws_the_grids_of_its_templates(vargpt):
    spec = vargpt.backbone.spec
    height, width = grid("sq")
    assert spec.draws((height, width))
    assert not spec.draws((2, 2)) and not spec.draws((height + 1, width))
    assert all(vargpt.backbone.config.schedule(grid).grid == grid for grid in spec.grids)


@pytest.mark.parametrize("guidance, temperature", [(1.0, 1.0), (2.0, 0.8)])
def test_teacher_forcing_gives_the_log_probs_of_sampling(
    vargpt, condition, sample, plain, shape, guidance: float, temperature: float
):
    """For every bit of every sample, after absent prompts too."""
    sampler = replace(plain, guidance=guidance, temperature=temperature)
    state = sample(condition, keys(3, 2), sampler)
    assert isinstance(state.trace, BitsTrace)
    again = jax.jit(partial(score, vargpt), static_argnums=3)(
        vargpt.params, condition, state.trace.bits, sampler
    )
    assert state.trace.log_probs.shape == (3, 2, *shape)
    np.testing.assert_allclose(again, state.trace.log_probs, atol=2e-4)
    assert 0.2 < float(state.trace.bits.mean()) < 0.8


def test_an_adapter_changes_the_log_probs_and_learns(vargpt, condition, processor, sample, plain):
    """The gradient of a sample's log-prob reaches every projection."""
    adapter = init(jax.random.key(0), vargpt.params.base, ROLES["generator"])
    bits = sample(condition, keys(3, 2), plain).trace.bits
    prompts = jax.tree.map(jnp.asarray, processor.prompt(TEXTS, "draw").prompts)

    def total(adapter):
        params = Params(vargpt.params.base, adapter)
        made = vargpt.backbone.condition(params, prompts, row_keys(prompts))
        return score(vargpt, params, made, bits).mean()

    before, gradient = jax.jit(jax.value_and_grad(total))(adapter)
    assert all(float(jnp.abs(lora.b).max()) > 0 for lora in gradient.values())
    step = lambda lora, by: replace(lora, b=lora.b + 0.05 * by.b)
    moved = {path: step(lora, gradient[path]) for path, lora in adapter.items()}
    assert float(jax.jit(total)(moved)) > float(before) + 1e-4


@pytest.mark.slow
def test_a_sample_depends_on_its_own_prompt_and_key_alone(
    vargpt, processor, condition, sample, plain
):
    all_keys = keys(3, 2)
    together = sample(condition, all_keys, plain).trace.bits
    for n, turn in enumerate(TEXTS):
        alone = sample(conditioned(vargpt, processor, [turn]), all_keys[n : n + 1, 1:], plain)
        if turn:  # an absent prompt alone has another number of rows
            np.testing.assert_array_equal(alone.trace.bits[0, 0], together[n, 1])


@pytest.mark.slow
def test_guidance_pushes_away_from_the_absent_prompt(vargpt, condition, plain):
    """Logits are c main + (1 - c) absent, after the temperature."""
    guided = replace(plain, guidance=3.0, temperature=0.5)
    first = lambda sampler, condition: vargpt.jit("start", "sampler")(
        condition, keys(3, 1), sampler=sampler
    )
    logits = lambda condition, sampler: drawing.scale_logits(
        vargpt.network(), condition, first(sampler, condition).inner, 0, sampler
    )[0]
    found = logits(condition, guided)
    absent = logits(drawing.Condition(condition.absent, condition.absent), plain)
    expected = (3 * logits(condition, plain) - 2 * absent) / 0.5
    np.testing.assert_allclose(found, expected, atol=3e-4)
    assert jnp.abs(found - logits(condition, replace(guided, guidance=1.0))).max() > 1e-2


def test_the_rare_value_falls_out_of_the_nucleus(plain):
    logits = jnp.log(jnp.array([[0.02, 0.98], [0.96, 0.04], [0.5, 0.5]]))
    found = np.exp(drawing.bit_log_probs(logits, replace(plain, top_p=0.97)))
    np.testing.assert_allclose(found, [[0, 1], [0.96, 0.04], [0.5, 0.5]], atol=1e-6)


def test_sampled_log_probs_are_those_of_the_truncated_distribution(condition, sample, plain):
    settings = replace(plain, guidance=3.0, temperature=0.5, top_p=0.9)
    trace = sample(condition, keys(3, 2), settings).trace
    log_probs = np.asarray(trace.log_probs)
    certain = log_probs == 0
    assert 0 < certain.mean() < 1 and log_probs[~certain].min() > np.log(0.1) - 1e-5


@pytest.mark.slow
def test_flipped_bits_enter_but_do_not_count(vargpt, condition):
    """A target encoded with a key: labels are unflipped, the network and the picture see flips."""
    pixels = jax.random.uniform(jax.random.key(0), (3, *vargpt.pixels("sq"), 3))
    target = vargpt.backbone.encode_target(vargpt.params, pixels, jax.random.key(1))
    values = np.asarray(target.values)
    assert target.grid == grid("sq") and set(np.unique(values)) == {0, 1, 2, 3}
    grouped = replace(target, values=target.values[:, None])
    terms = vargpt.backbone.terms(vargpt.params, condition, grouped, None)
    np.testing.assert_array_equal(terms.bits[:, 0], values % 2)
    clean = replace(grouped, values=entering(grouped))
    same = vargpt.backbone.terms(vargpt.params, condition, clean, None)
    np.testing.assert_array_equal(same.logits, terms.logits)
    draw = lambda target: vargpt.backbone.pixels(vargpt.params, condition, target, keys(3, 1))
    np.testing.assert_array_equal(draw(clean), draw(grouped))
    unflipped = vargpt.backbone.encode_target(vargpt.params, pixels, None)
    assert set(np.unique(unflipped.values)) == {0, 1}


@pytest.mark.slow
def test_a_request_becomes_pictures(vargpt, processor, plain):
    """The whole way in one program, twice with the same bits, without effects."""
    request = processor.prompt(TEXTS[:2], "draw")
    sampler = replace(plain, guidance=2.0)
    run = partial(draw_pictures, vargpt.backbone, vargpt.params)
    jaxpr = jax.make_jaxpr(run, static_argnums=2)(request, keys(2, 2), sampler)
    assert not jaxpr.effects
    draw = jax.jit(run, static_argnums=2)
    pixels = draw(request, keys(2, 2), sampler)
    assert pixels.shape == (2, 2, *vargpt.pixels("sq"), 3)
    assert 0 <= float(pixels.min()) and float(pixels.max()) <= 1
    np.testing.assert_array_equal(pixels, draw(request, keys(2, 2), sampler))


def test_rows_of_a_clean_picture_are_what_the_language_model_reads(vargpt, shape):
    bits = jnp.zeros((2, *shape), jnp.int32)
    rows = vargpt.backbone.encode_latents(vargpt.params, Target(bits, grid("sq")))
    assert rows.shape == (2, shape[0], vargpt.backbone.config.language.width)
    changed = vargpt.backbone.encode_latents(
        vargpt.params, Target(bits.at[0, 0].set(1), grid("sq"))
    )
    assert (changed[0, 0] == rows[0, 0]).all() and (changed[0, 1] != rows[0, 1]).any()
    np.testing.assert_array_equal(changed[1], rows[1])


def test_there_is_no_velocity(vargpt, condition, shape):
    with pytest.raises(ValueError, match="draws bits"):
        x, t = jnp.zeros((3, 1, *shape)), jnp.zeros((3, 1))
        vargpt.backbone.velocity(vargpt.params, condition, x, t, grid("sq"))


@pytest.mark.slow
def test_pictures_in_a_prompt_change_what_is_drawn(vargpt, processor, shape):
    """An edit: the picture is read by the vision tower."""
    views = [PIL.new("RGB", (56, 56), color) for color in ("red", "blue")]
    request = processor.prompt([[view, "make it round"] for view in views], "draw")
    assert request.sources is None and len(request.images) == 1
    prompts = jax.jit(partial(encode, vargpt.backbone))(vargpt.params, request)
    made = vargpt.jit("condition")(Prompts(prompts.main), row_keys(prompts))
    bits = jnp.zeros((2, 1, *shape), jnp.int32)
    logits = vargpt.backbone.terms(vargpt.params, made, Target(bits, grid("sq")), None).logits
    assert jnp.abs(logits[0] - logits[1]).max() > 1e-3
