"""Drawing through the protocol: what may and what may not change a picture, and what learns."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from asg_jax.adapters import init
from asg_jax.backbone import Draw, Params, Prompts, Sampler, Target
from asg_jax.models.blip3o import decoding
from asg_jax.models.blip3o.adapters import ROLES
from asg_jax.models.blip3o.processor import Blip3oProcessor
from asg_jax.models.tokenizers import ByteTokenizer
from asg_jax.ops.flow import start_noise

STEPS = 4


@pytest.fixture(scope="module")
def processor(blip3o):
    config = blip3o.backbone.config
    return Blip3oProcessor(config, ByteTokenizer(config.tokens.specials()))


@pytest.fixture(scope="module")
def prompts(processor):
    request = processor.prompt([["a red cat"], ["two dogs"]], "draw")
    return jax.tree.map(jnp.asarray, request.prompts)


@pytest.fixture(scope="module")
def sampler(blip3o):
    return Sampler(blip3o.backbone.spec.max_grid, STEPS, 1.0, 1.0)


def keys(batch, samples, seed=0):
    return jax.random.split(jax.random.key(seed), (batch, samples))


@pytest.fixture(scope="module")
def draw(blip3o):
    """Prompts to features."""
    backbone = blip3o.backbone

    def run(params, prompts, keys, sampler):
        condition = backbone.condition(params, prompts, keys[:, 0])
        state = backbone.start(params, condition, keys, sampler)
        step = lambda i, state: backbone.step(params, condition, state, i, sampler)
        state = jax.lax.fori_loop(0, sampler.steps, step, state)
        return backbone.preview(params, condition, state, sampler), state, condition

    return jax.jit(run, static_argnums=3)


def adapter_of(blip3o, role="generator", scale=0.1):
    adapter = init(jax.random.key(3), blip3o.params.base, ROLES[role])
    fill = lambda x: jnp.asarray(np.random.default_rng(x.size).normal(0, scale, x.shape), x.dtype)
    return jax.tree.map(fill, adapter)


def test_samples_and_prompts_in_one_batch_are_those_drawn_alone(blip3o, draw, prompts, sampler):
    # Text only, for the blank prompt's features are not under test.
    prompts, own = Prompts(prompts.main), keys(2, 3)
    together = draw(blip3o.params, prompts, own, sampler)[0]
    one = jax.tree.map(lambda x: x[1:], prompts)
    alone = draw(blip3o.params, one, own[1:, 2:], sampler)[0]
    np.testing.assert_allclose(together.values[1:, 2:], alone.values, atol=2e-5)


def test_stochastic_steps_are_recorded(blip3o, draw, prompts, sampler):
    noisy = replace(sampler, noise_level=0.5)
    _, state, _ = draw(blip3o.params, Prompts(prompts.main), keys(2, 2), noisy)
    assert state.trace.latents.shape[:3] == (STEPS + 1, 2, 2)
    assert bool(jnp.all(state.trace.log_probs[:-1] != 0))
    assert bool(jnp.all(state.trace.log_probs[-1] == 0))


def test_the_velocity_of_the_update_is_that_of_the_rollout(blip3o, draw, prompts, sampler):
    """What a step took is what `velocity` says at the same latents and time."""
    params = Params(blip3o.params.base, adapter_of(blip3o))
    noisy = replace(sampler, noise_level=0.5)
    _, state, condition = draw(params, Prompts(prompts.main), keys(2, 2), noisy)
    x, clean = state.trace.latents[STEPS - 1], state.inner.clean
    t = jnp.full((2, 2), 1 / STEPS)
    velocity = jax.jit(blip3o.backbone.velocity, static_argnums=4)
    found = velocity(params, condition, x, t, sampler.grid)
    np.testing.assert_allclose(x - found / STEPS, clean, atol=1e-5)


def test_guidance_at_one_is_none_and_the_null_branch_counts(blip3o, draw, prompts, sampler):
    plain = draw(blip3o.params, Prompts(prompts.main), keys(2, 1), sampler)[0].values
    guided = replace(sampler, guidance=3.0, renorm_min=1.0, interval=(0.0, 1.0))
    found = draw(blip3o.params, Prompts(prompts.main), keys(2, 1), guided)[0].values
    assert float(jnp.abs(found - plain).max()) > 1e-2
    late = replace(guided, interval=(0.0, 0.3))  # the last step alone
    partly = draw(blip3o.params, Prompts(prompts.main), keys(2, 1), late)[0].values
    assert 0 < float(jnp.abs(partly - plain).max()) < float(jnp.abs(found - plain).max())


def test_every_leaf_of_the_generator_learns_what_it_drew(blip3o, prompts):
    """Through `terms`: the transformer's own maps, and the language model's through the queries."""
    backbone, base = blip3o.backbone, blip3o.params.base
    adapter, grid = adapter_of(blip3o, scale=0.05), backbone.spec.max_grid
    shape = (2, 2, grid[0] * grid[1], backbone.spec.token_channels)
    values, noise = jax.random.normal(jax.random.key(1), (2, *shape))
    given = Draw(jnp.array([[0.3, 0.8], [0.5, 0.9]]), noise)

    def loss(adapter, queries):
        params = Params(base | {"queries": queries}, adapter)
        condition = backbone.condition(params, prompts, jax.random.split(jax.random.key(0), 2))
        terms = backbone.terms(params, condition, Target(values, grid), given)
        return jnp.mean((terms.prediction - terms.goal) ** 2)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    learned, queries = gradient(adapter, base["queries"])
    assert set(learned) == set(adapter)
    for path, lora in learned.items():
        for name, leaf in (("a", lora.a), ("b", lora.b)):
            each = jnp.abs(leaf).max(axis=(-2, -1))  # of every layer
            assert float(each.min()) > 1e-9, f"{path}.{name}"
    assert float(jnp.abs(queries).max()) > 1e-6


def test_the_adapter_that_learns_is_the_one_that_draws(blip3o, draw, prompts, sampler):
    """Every module of the Generator changes the drawing."""
    own, main = keys(2, 1), Prompts(prompts.main)
    adapter = adapter_of(blip3o, scale=0.5)
    still = jax.tree.map(jnp.zeros_like, adapter)
    frozen = draw(blip3o.params, main, own, sampler)[0].values
    np.testing.assert_allclose(
        draw(Params(blip3o.params.base, still), main, own, sampler)[0].values, frozen, atol=1e-4
    )
    for path in adapter:
        params = Params(blip3o.params.base, still | {path: adapter[path]})
        found = draw(params, main, own, sampler)[0].values
        assert float(jnp.abs(found - frozen).max()) > 1e-4, path


@pytest.fixture(scope="module")
def condition(blip3o, prompts):
    of_prompts = jax.random.split(jax.random.key(0), 2)
    return jax.jit(blip3o.backbone.condition)(blip3o.params, prompts, of_prompts)


def target_of(backbone):
    grid, channels = backbone.spec.max_grid, backbone.spec.token_channels
    values = jax.random.normal(jax.random.key(5), (2, 2, grid[0] * grid[1], channels))
    return Target(values, grid)


@pytest.mark.slow
def test_pixels_have_keys_of_their_own(blip3o, condition):
    """One picture's numbers depend on its own key, which drew other numbers for its features."""
    pixels, target, own = blip3o.jit("pixels"), target_of(blip3o.backbone), keys(2, 2)
    found = pixels(condition, target, own)
    height, width = blip3o.backbone.config.decoding.size
    assert found.shape == (2, 2, height, width, 3)
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    np.testing.assert_array_equal(found, pixels(condition, target, own))
    changed = pixels(condition, target, own.at[0, 1].set(jax.random.key(9)))
    same = np.asarray((found == changed).all((2, 3, 4)))
    assert same.tolist() == [[True, False], [True, True]]
    fold = lambda purpose: jax.random.normal(jax.random.fold_in(own[0, 0], purpose), (4,))
    features = start_noise(own, 1, 4)[0, 0, 0]
    assert not np.allclose(features, fold(decoding.PURPOSE))
    assert decoding.PURPOSE > 10_000  # beyond the streams of the steps of a flow


def test_the_blank_prompt_guides_the_pixels(blip3o, condition):
    """Its features stand in the condition: always the same ones, whatever the prompts."""
    assert condition.blank.shape == (1, *target_of(blip3o.backbone).values.shape[2:])
    target, own = target_of(blip3o.backbone), keys(2, 2)
    changed = replace(condition, blank=condition.blank + 1)
    pixels = blip3o.jit("pixels")
    found = [pixels(c, target, own) for c in (condition, changed)]
    assert float(jnp.abs(found[0] - found[1]).max()) > 1e-3


# 24 rows in all; two prompts with three pictures each on every one of four devices.
@pytest.mark.parametrize("most, found", [(1, [1, 4]), (7, [6, 24]), (100, [24, 24])])
def test_slices_on_a_mesh_are_those_of_one_device(most, found):
    """Every device has as many rows in every slice; the order of the pictures stays."""
    x = jnp.arange(8 * 3, dtype=jnp.float32).reshape(8, 3, 1)
    rows = []

    def double(x):
        rows.append(x.shape[0])
        return 2 * x

    run = lambda x: decoding.by_slices(double, (x,), most)
    np.testing.assert_array_equal(jax.jit(run)(x), 2 * x)
    mesh = jax.make_mesh((2, 2, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.set_mesh(mesh):
        np.testing.assert_array_equal(jax.jit(lambda x: run(x))(x), 2 * x)
    assert set(rows) == set(found)
