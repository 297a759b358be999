"""Image rollouts on the golden models: traces, guidance that is not computed, independence."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import FlowTrace, Params, Prompts, Sampler, Spec, State
from asg_jax.ops.flow import time_grid
from asg_jax.rollout.image import draw, draw_pictures, sample_images, trace_log_probs
from asg_jax.testing import toy
from tests.models.loaded import row_keys
from tests.rollout.conftest import equations, flows, jit, longer

GRID = (2, 3)
TRAINING = Sampler(GRID, steps=4, guidance=1.0, noise_level=0.7)
GUIDED = Sampler(GRID, steps=4, guidance=4.0, interval=(0.4, 1.0))

sample = jit(sample_images, static_argnums=(0, 4))


@pytest.fixture(scope="module")
def prompts(tiny) -> Prompts:
    request = tiny.processor.prompt([["a red square"], ["two"]], "draw")
    return jax.tree.map(jnp.asarray, request.prompts)


@pytest.fixture(scope="module")
def conditions(tiny):
    """`conditions(prompts)` with the adapter."""
    compute = jit(tiny.backbone.condition)
    return lambda prompts: compute(tiny.adapted, prompts, row_keys(prompts))


@pytest.fixture(scope="module")
def condition(conditions, prompts):
    return conditions(prompts)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(1), (2, 2))


@pytest.fixture(scope="module")
def sampler(tiny) -> Sampler:
    """Settings whose rollouts keep a trace."""
    spec = tiny.backbone.spec
    grid = spec.grids[0] if spec.grids else GRID
    return replace(TRAINING, grid=grid) if spec.kind == "flow" else Sampler(grid, guidance=1.0)


@pytest.fixture(scope="module")
def state(tiny, condition, keys, sampler) -> State:
    """A rollout with a trace."""
    return sample(tiny.backbone, tiny.adapted, condition, keys, sampler)


def image(trace, *place: int):
    """The trace of one image (prompt, sample), or of all (..., ...)."""
    steps = (slice(None),) * isinstance(trace, FlowTrace)
    return jax.tree.map(lambda x: x[*steps, *place], trace)


def assert_close(one, other):
    """Equal but for rounding; bits are whole numbers."""
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), one, other)


def values(tiny, condition, state, sampler):
    return tiny.backbone.preview(tiny.adapted, condition, state, sampler).values


@flows
def test_recorded_log_probs_are_recomputed_ones(tiny, prompts, state):
    """Under the same parameters, with gradients through the condition and the steps."""

    def total(adapter):
        params = Params(tiny.adapted.base, adapter)
        context = tiny.backbone.condition(params, prompts, row_keys(prompts))
        log_probs = trace_log_probs(tiny.backbone, params, context, state.trace, TRAINING)
        return log_probs.sum(), log_probs

    gradient, log_probs = jit(jax.grad(total, has_aux=True))(tiny.adapted.adapter)
    np.testing.assert_allclose(log_probs, state.trace.log_probs, atol=1e-4)
    assert not log_probs[-1].any() and log_probs[:-1].all()
    for factor in jax.tree.leaves(gradient):
        assert np.isfinite(factor).all() and factor.any()


@flows
def test_trace_holds_every_latent(tiny, condition, keys, state):
    latents = state.trace.latents
    assert latents.shape == (5, 2, 2, 6, tiny.backbone.spec.token_channels)
    first = jit(tiny.backbone.start, static_argnums=3)(tiny.adapted, condition, keys, TRAINING)
    np.testing.assert_allclose(latents[0], first.inner.x, rtol=1e-6)
    np.testing.assert_array_equal(latents[-1], values(tiny, condition, state, TRAINING))


def test_equal_inputs_give_equal_bits(tiny, condition, keys, sampler, state):
    again = sample(tiny.backbone, tiny.adapted, condition, keys, sampler)
    jax.tree.map(np.testing.assert_array_equal, again.trace, state.trace)


def test_image_ignores_its_batch(tiny, prompts, conditions, keys, sampler, state):
    """Prompts and images in another order, and another key for one of the images."""
    condition = conditions(jax.tree.map(lambda x: x[::-1], prompts))
    turned = keys[::-1, ::-1].at[0, 0].set(jax.random.key(9))
    got = sample(tiny.backbone, tiny.adapted, condition, turned, sampler)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        there = image(state.trace, 1 - row, 1 - column)
        assert_close(image(got.trace, row, column), there)
    drawn = values(tiny, condition, got, sampler)[0, 0]
    assert np.abs(drawn - values(tiny, condition, state, sampler)[1, 1]).max() > 0.1


def test_group_size_and_buckets_change_nothing(tiny, prompts, conditions, keys, sampler, state):
    """One image alone, its prompt in a longer bucket."""
    alone = longer(jax.tree.map(lambda x: x[1:], prompts.main), 8)
    condition = conditions(replace(prompts, main=alone))
    got = sample(tiny.backbone, tiny.adapted, condition, keys[1:, 1:], sampler)
    assert_close(image(got.trace, 0, 0), image(state.trace, 1, 1))


@flows
def test_deterministic_rollout_is_the_plain_flow(tiny, condition, keys, state):
    sampler = replace(TRAINING, noise_level=0.0)
    got = sample(tiny.backbone, tiny.adapted, condition, keys, sampler)
    assert got.trace is None
    velocity = jit(tiny.backbone.velocity, static_argnums=4)
    x, times = np.asarray(state.trace.latents[0]), time_grid(sampler.steps, sampler.shift)
    for t, t_next in zip(times, times[1:], strict=False):
        v = velocity(tiny.adapted, condition, x, np.full((2, 2), t), GRID)
        x = x - (t - t_next) * np.asarray(v)
    np.testing.assert_allclose(values(tiny, condition, got, sampler), x, atol=1e-4)
    assert np.abs(state.inner.x - x).max() > 0.1  # the noise of the stochastic rollout


@flows
def test_guided_rollout(tiny, condition, keys):
    run = lambda sampler: sample(tiny.backbone, tiny.adapted, condition, keys, sampler).inner.x
    assert np.abs(run(GUIDED) - run(replace(GUIDED, guidance=1.0))).max() > 1e-2


def matmul_operations(jaxpr) -> int:
    """Multiplications of all matrix products, loop bodies counted once."""
    total = 0
    for equation in equations(jaxpr):
        if equation.primitive.name == "dot_general":
            (contract, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval, equation.outvars[0].aval
            total += out.size * int(np.prod([left.shape[axis] for axis in contract]))
    return total


def step_program(tiny, condition, keys, sampler):
    params = Params(tiny.adapted.base)  # an adapter may change a kernel once for all branches
    state = jax.eval_shape(
        lambda *inputs: tiny.backbone.start(*inputs, sampler), params, condition, keys
    )
    step = lambda params, condition, state, i: tiny.backbone.step(
        params, condition, state, i, sampler
    )
    return jax.make_jaxpr(step)(params, condition, state, jnp.int32(0))


@flows
def test_only_the_branches_that_guidance_needs_are_computed(tiny, prompts, condition, keys):
    everywhere = replace(GUIDED, interval=(0.0, 1.0))
    both = replace(everywhere, image_guidance=1.5)
    cost = lambda sampler, condition=condition: matmul_operations(
        step_program(tiny, condition, keys, sampler).jaxpr
    )
    plain = cost(replace(GUIDED, guidance=1.0))
    assert cost(everywhere) == 2 * plain
    assert cost(both) == 2 * plain  # text to image: without images means the main context
    assert cost(replace(GUIDED, interval=(2.0, 3.0))) == plain
    editing = jax.eval_shape(
        tiny.backbone.condition,
        tiny.adapted,
        Prompts(prompts.main, prompts.main, prompts.main),
        row_keys(prompts),
    )
    assert cost(both, editing) == 3 * plain


@flows
def test_programs_have_no_effects_and_no_noise_that_nobody_asked_for(tiny, condition, keys):
    for sampler in (GUIDED, TRAINING):
        jaxpr = step_program(tiny, condition, keys, sampler)
        assert not jaxpr.effects
        names = {equation.primitive.name for equation in equations(jaxpr.jaxpr)}
        assert ("random_bits" in names) == (sampler.noise_level > 0)


@flows
def test_log_probs_of_guided_rollouts_are_refused(tiny, condition, state):
    guided = replace(TRAINING, guidance=4.0)
    with pytest.raises(ValueError, match="guidance=1"):
        trace_log_probs(tiny.backbone, tiny.adapted, condition, state.trace, guided)


@dataclass(frozen=True)
class Unrolled:
    """A backbone whose steps differ in shape."""

    spec = Spec("bits", 3, True, 1, 1, (4, 4), 1, 1)

    def start(self, params, condition, keys, sampler):
        return State(jnp.zeros((1, 1, 0)), keys)

    def step(self, params, condition, state, i, sampler):
        return replace(state, inner=jnp.pad(state.inner, ((0, 0), (0, 0), (0, i))) + 1)


def test_steps_that_differ_in_shape_are_unrolled():
    keys = jax.random.split(jax.random.key(0), (1, 1))
    backbone: Any = Unrolled()
    got = jit(partial(sample_images, backbone, Params({}), None), static_argnums=1)(keys, GUIDED)
    np.testing.assert_array_equal(got.inner[0, 0], [2, 1, 1])


def drawn(kind: str, sampler: Sampler, batch: int = 3, keys: Any = None):
    """Two drawings each of some prompts."""
    keys = jax.random.split(jax.random.key(0), (batch, 2)) if keys is None else keys
    request = jax.tree.map(lambda x: x[:batch], toy.request(3))
    params = Params(toy.base(), toy.adapter())
    return jax.jit(draw, static_argnums=(0, 4))(toy.Toy(kind), params, request, keys, sampler)


NOISY = replace(TRAINING, steps=3)
KINDS = pytest.mark.parametrize(
    "kind, sampler", [("flow", NOISY), ("bits", Sampler(GRID, guidance=1.0))]
)


@KINDS
def test_condition_sampling_and_pixels_have_keys_of_their_own(kind, sampler):
    """A drawing's pixels are made with none of the keys that it was sampled with."""
    keys = jax.random.split(jax.random.key(0), (3, 2))
    got = drawn(kind, sampler, keys=keys)
    steps = [jax.random.fold_in(keys[1, 1], n) for n in range(sampler.steps + 1)]
    others = [keys[1, 1], *got.keys, *steps]
    rows = np.array([jax.random.key_data(key) for key in others])
    assert len(np.unique(rows, axis=0)) == len(rows)
    for key in others:
        assert np.abs(got.pixels[1, 1] - jax.random.uniform(key, (*GRID, 3))).max() > 0.01
    assert len({float(x) for x in got.pixels[..., 0, 0, 0].ravel()}) == 6


@KINDS
def test_a_drawing_is_independent_of_its_place_in_the_batch(kind, sampler):
    keys = jax.random.split(jax.random.key(0), (3, 2))
    params, order = Params(toy.base(), toy.adapter()), np.array([2, 0])
    request = jax.tree.map(lambda x: x[order], toy.request(3))
    run = jax.jit(draw, static_argnums=(0, 4))
    got = run(toy.Toy(kind), params, request, keys[order], sampler)
    want = jax.tree.map(lambda x: x[order], drawn(kind, sampler, keys=keys))
    assert (got.keys == want.keys).all()
    for name in ("values", "pixels", "pictures", "latents", "log_probs"):
        ours, theirs = getattr(got, name), getattr(want, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_drawings_hold_what_an_update_needs():
    """Latents and log-probs example by example, bits with their log-probs, else neither."""
    flow, bits = drawn("flow", NOISY), drawn("bits", Sampler(GRID, guidance=1.0))
    assert flow.latents.shape == (3, 4, 2, toy.L, toy.C) and flow.log_probs.shape == (3, 3, 2)
    np.testing.assert_array_equal(flow.latents[:, -1], flow.values)
    assert flow.log_probs[:, :-1].all() and not flow.log_probs[:, -1].any()
    assert bits.latents is None and bits.log_probs.shape == bits.values.shape
    assert (bits.log_probs < 0).all() and set(np.unique(bits.values)) == {0, 1}
    plain = drawn("flow", replace(NOISY, noise_level=0.0))
    assert plain.latents is None and plain.log_probs is None
    np.testing.assert_array_equal(plain.pictures, np.uint8(np.asarray(plain.pixels) * 255))


def test_pictures_alone_are_the_pixels_of_drawings():
    keys = jax.random.split(jax.random.key(0), (3, 2))
    params = Params(toy.base(), toy.adapter())
    backbone: Any = toy.Toy()
    got = draw_pictures(backbone, params, toy.request(3), keys, NOISY)
    np.testing.assert_allclose(got, drawn("flow", NOISY).pixels, atol=1e-6)
