"""Feed-forward blocks against their formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asg_jax.models.layers.mlp import ACTIVATIONS, MLP, GatedMLP

FORMULAS = {
    "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_pytorch_tanh": lambda x: (
        x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
}


def apply(formula, x):
    return np.vectorize(formula)(np.asarray(x, np.float64))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_the_activation_is_the_one_that_is_named(name):
    """The two forms of GELU differ by up to 5e-4, so the tolerance tells them apart."""
    mlp = MLP(3, 4, 2, name, rngs=nnx.Rngs(0))
    x = jnp.linspace(-3, 3, 15).reshape(5, 3)
    inner = apply(FORMULAS[name], 2 * x @ mlp.fc1.kernel[...])
    np.testing.assert_allclose(mlp(2 * x), inner @ np.asarray(mlp.fc2.kernel[...]), atol=5e-6)


def test_the_gate_alone_is_activated():
    mlp = GatedMLP(3, 4, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (5, 3))
    gate = apply(FORMULAS["silu"], x @ mlp.gate_proj.kernel[...])
    inner = gate * np.asarray(x @ mlp.up_proj.kernel[...])
    np.testing.assert_allclose(mlp(x), inner @ np.asarray(mlp.down_proj.kernel[...]), atol=5e-6)
