"""Normalisation against float64 formulas, and in half precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asg_jax.models.layers.norms import GroupNorm, LayerNorm, RMSNorm

EPS = 1e-3  # large enough to be seen


def rms_norm(x, weight, bias):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + EPS) * weight


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPS) * weight + bias


def group_norm(x, weight, bias):
    """Two groups of consecutive channels."""
    groups = np.split(x, 2, axis=-1)
    axes = (1, 2, 3)
    normed = [(g - g.mean(axes, keepdims=True)) for g in groups]
    normed = [g / np.sqrt(g.var(axes, keepdims=True) + EPS) for g in normed]
    return np.concatenate(normed, axis=-1) * weight + bias


NORMS = {
    "rms": (lambda: RMSNorm(6, eps=EPS), rms_norm),
    "layer": (lambda: LayerNorm(6, eps=EPS), layer_norm),
    "group": (lambda: GroupNorm(6, groups=2, eps=EPS), group_norm),
}


def make(name):
    """A norm with random weights, and an input with a mean."""
    norm, rng = NORMS[name][0](), np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    norm.weight = nnx.Param(draw(6))
    if name != "rms":
        norm.bias = nnx.Param(draw(6))
    return norm, 0.1 * draw(2, 3, 4, 6) + 0.05


def run(norm, x):
    return jax.jit(lambda x: norm(x))(x)


@pytest.mark.parametrize("name", sorted(NORMS))
def test_equals_the_formula(name):
    norm, x = make(name)
    bias = 0.0 if name == "rms" else np.asarray(norm.bias[...], np.float64)
    expected = NORMS[name][1](np.asarray(x, np.float64), np.asarray(norm.weight[...]), bias)
    np.testing.assert_allclose(run(norm, x), expected, atol=2e-6)


@pytest.mark.parametrize("name", sorted(NORMS))
def test_statistics_are_taken_in_float32(name):
    """Squares of 300 overflow float16, and a sum of 6 bfloat16 numbers is off by per cents."""
    norm, x = make(name)
    large = (300 + 100 * x).astype(jnp.float16)
    out, wanted = run(norm, large), run(norm, large.astype(jnp.float32))
    assert out.dtype == jnp.float16
    np.testing.assert_allclose(out, wanted, atol=4e-3)
    rounded = x.astype(jnp.bfloat16)
    out, wanted = run(norm, rounded), run(norm, rounded.astype(jnp.float32))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), wanted, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("name", sorted(NORMS))
def test_a_constant_input_has_finite_gradients(name):
    norm, x = make(name)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(norm(x) ** 2)))
    for constant in (0.0, 1.0):
        assert np.isfinite(gradient(np.full(x.shape, constant, np.float32))).all()
