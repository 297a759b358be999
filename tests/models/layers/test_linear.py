"""Linear maps, and adapters that attach to them."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asg_jax.backbone import LoRA
from asg_jax.models.layers.linear import Linear, attach
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.layers.stack import scan_layers, stacked
from asg_jax.ops.int8 import quantize


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def lora(*layers, inputs=5, outputs=3, scale=0.5):
    return LoRA(normal(1, *layers, inputs, 2), normal(2, *layers, 2, outputs), scale)


def wrapped(**options):
    """A model whose only linear map has the path `inside.map`."""
    linear = Linear(5, 3, rngs=nnx.Rngs(0), **options)
    return nnx.Dict(inside=nnx.Dict(map=linear)), linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 4])  # the product is formed apart, or added to the kernel
def test_an_adapter_adds_its_scaled_product(bias, rows):
    model, linear = wrapped(bias=bias)
    x, factors = normal(0, 1, rows, 5), lora(scale=0.25)
    run = lambda x: np.asarray(jax.jit(lambda x: linear(x))(x))
    before = run(x)
    attach(model, {"inside.map": factors})
    added = np.asarray(x) @ np.asarray(factors.a) @ np.asarray(factors.b)
    np.testing.assert_allclose(run(x), before + 0.25 * added, atol=1e-5)


def test_bfloat16_keeps_an_update_that_the_kernel_could_not_hold():
    model, linear = wrapped()
    x, factors = jnp.ones((64, 5), jnp.bfloat16), lora(scale=2e-4)
    linear.kernel[...] = jnp.full((5, 3), 256.0)
    linear.kernel[...] = linear.kernel[...].at[0].set(-1024.0)  # the base cancels
    attach(model, {"inside.map": factors})
    added = np.ones((64, 5)) @ np.asarray(factors.a) @ np.asarray(factors.b) * 2e-4
    np.testing.assert_allclose(np.asarray(linear(x), np.float32), added, rtol=0.05)


@pytest.mark.parametrize("size", [1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("bias", [True, False])
def test_bfloat16_lets_small_updates_through(size, bias):
    """What arrives of an update, projected on it, is all of it, however small its factor."""
    linear = Linear(256, 256, bias=bias, rngs=nnx.Rngs(0))
    if linear.bias is not None:
        linear.bias[...] = normal(5, 256)
    model, factors = nnx.Dict(map=linear), LoRA(normal(1, 256, 16) / 16, normal(2, 16, 256), size)
    x = normal(3, 2048, 256).astype(jnp.bfloat16)
    run = jax.jit(lambda x: linear(x).astype(jnp.float32))
    before = run(x)
    attach(model, {"map": factors})
    arrived = jax.jit(lambda x: linear(x).astype(jnp.float32))(x) - before
    update = x.astype(jnp.float32) @ factors.a @ factors.b * size
    assert 0.9 < jnp.vdot(arrived, update) / jnp.vdot(update, update) < 1.1


def test_a_zero_update_leaves_bfloat16_results_alone():
    linear = Linear(64, 64, rngs=nnx.Rngs(0))
    x = normal(3, 32, 64).astype(jnp.bfloat16)
    before = np.asarray(linear(x))
    attach(nnx.Dict(map=linear), {"map": LoRA(normal(1, 64, 4), jnp.zeros((4, 64)), 1.0)})
    np.testing.assert_array_equal(linear(x), before)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_few_rows_on_a_gpu_are_computed_in_whole_tiles(monkeypatch, rows):
    """And the inner product of an adapter in parts."""
    linear = Linear(24, 3, rngs=nnx.Rngs(0))
    attach(nnx.Dict(map=linear), {"map": lora(inputs=24)})
    x = normal(0, 1, rows, 24).astype(jnp.bfloat16)
    expected = linear(x)
    monkeypatch.setattr("asg_jax.models.layers.linear.platform", lambda: "gpu")
    np.testing.assert_allclose(linear(x), expected, rtol=2**-7, atol=2**-7)
    shapes = {v.aval.shape for e in jax.make_jaxpr(linear)(x).eqns for v in e.outvars}
    assert (8, 8, 2) in shapes  # parts, whole tiles of rows, rank


def test_a_bias_that_a_gpu_adds_apart_is_the_same(monkeypatch):
    linear = Linear(24, 3, rngs=nnx.Rngs(0))
    assert linear.bias is not None
    linear.bias[...] = normal(4, 3)
    loss = lambda x: jnp.sin(linear(x)).sum()
    x = normal(0, 8, 24)  # fewer rows than inputs, as when tokens are drawn
    before = jax.value_and_grad(loss)(x)
    monkeypatch.setattr("asg_jax.models.layers.linear.platform", lambda: "gpu")
    assert "optimization_barrier" in str(jax.make_jaxpr(loss)(x))
    jax.tree.map(np.testing.assert_array_equal, jax.value_and_grad(loss)(x), before)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_kernel_in_8_bits_is_that_of_its_columns_and_its_adapter_learns(dtype):
    plain, held = Linear(24, 3, rngs=nnx.Rngs(0)), Linear(24, 3, rngs=nnx.Rngs(0))
    eight = quantize(plain.kernel[...] + 0)
    plain.kernel[...] = eight.values * eight.scale
    held.kernel = nnx.Param[Any](eight)
    x = normal(0, 2, 4, 24).astype(dtype)

    def loss(factors, graph, state):
        linear = nnx.merge(graph, state)
        attach(nnx.Dict(map=linear), {"map": factors})
        return jnp.sin(linear(x).astype(jnp.float32)).sum()

    close = partial(np.testing.assert_allclose, rtol=1e-5 if dtype == jnp.float32 else 0.05)
    found, expected = (
        jax.value_and_grad(loss)(lora(inputs=24), *nnx.split(m)) for m in (held, plain)
    )
    jax.tree.map(partial(close, atol=0.1 if dtype != jnp.float32 else 1e-5), found, expected)


def test_stacked_layers_take_stacked_factors():
    """Layer n of a scan is updated by factor pair n."""
    layers = stacked(lambda rngs: Linear(3, 3, rngs=rngs), 2, nnx.Rngs(0))
    factors, x = lora(2, inputs=3), normal(0, 4, 3)
    expected, *parts = map(np.asarray, (x, layers.kernel[...], factors.a, factors.b))
    for kernel, a, b in zip(*parts, strict=True):
        expected = expected @ (kernel + 0.5 * a @ b)
    model = nnx.Dict(layers=layers)
    attach(model, {"layers": factors})
    out, _ = scan_layers(lambda layer, x, _: (layer(x), None), model["layers"], x)
    np.testing.assert_allclose(out, expected, rtol=1e-4)


def test_the_result_has_the_dtype_of_the_input():
    """Parameters and factors are cast, whatever dtype they are held in."""
    model, linear = wrapped()
    attach(model, {"inside.map": lora()})
    for dtype in (jnp.bfloat16, jnp.float32):
        assert linear(normal(0, 2, 5).astype(dtype)).dtype == dtype


@pytest.mark.parametrize("path", ["inside.other", "inside", "inside.map.kernel", "mlp.fc1.fc2"])
def test_a_path_that_is_no_linear_map_is_named(path):
    model = nnx.Dict(**wrapped()[0], mlp=MLP(5, 4, 3, "relu", rngs=nnx.Rngs(0)))
    with pytest.raises(KeyError, match=f"'{path}'"):
        attach(model, {path: lora()})


def test_the_empty_adapter_leaves_the_model_alone():
    model, linear = wrapped()
    attach(model, None)
    attach(model, {})
    assert linear.lora is None
