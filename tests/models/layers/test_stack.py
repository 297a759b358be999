"""Stacked layers: initialisation, order, and what the backward pass keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.stack import REMAT, scan_layers, stacked

COUNT, WIDTH = 3, 4


@pytest.fixture(scope="module")
def layers():
    return stacked(lambda rngs: Linear(WIDTH, WIDTH, rngs=rngs), COUNT, nnx.Rngs(0))


def apply(layer, carry, x):
    out = jnp.tanh(jnp.sin(layer(carry)) + x)
    return out, out[0]


def inputs():
    xs = jnp.arange(COUNT, dtype=jnp.float32)
    return jax.random.normal(jax.random.key(0), (2, WIDTH)), xs


def test_layers_start_different(layers):
    kernels = layers.kernel[...]
    assert kernels.shape == (COUNT, WIDTH, WIDTH)
    for n in range(1, COUNT):
        assert not np.allclose(kernels[n], kernels[0], atol=0.1)


def test_layers_run_in_order_with_their_own_inputs(layers):
    carry, xs = inputs()
    last, outputs = scan_layers(apply, layers, carry, xs)
    for n in range(COUNT):
        carry = jnp.tanh(jnp.sin(carry @ layers.kernel[...][n]) + xs[n])
        np.testing.assert_allclose(outputs[n], carry[0], atol=1e-6)
    np.testing.assert_allclose(last, carry, atol=1e-6)


def loss(layers, remat):
    """Of the parameters and the input, as a pure function."""
    graph, state = nnx.split(layers)
    carry, xs = inputs()

    def run(state, carry):
        last, outputs = scan_layers(apply, nnx.merge(graph, state), carry, xs, remat=remat)
        return jnp.sum(last**2) + jnp.sum(outputs)

    return run, (state, carry)


def test_policies_change_neither_values_nor_gradients(layers):
    results = {}
    for remat in REMAT:
        run, arguments = loss(layers, remat)
        results[remat] = jax.tree.leaves(jax.value_and_grad(run, argnums=(0, 1))(*arguments))
    for remat, leaves in results.items():
        for leaf, expected in zip(leaves, results["none"], strict=True):
            np.testing.assert_allclose(leaf, expected, atol=1e-6, err_msg=remat)


def test_policies_keep_less_for_the_backward_pass(layers):
    """'full' keeps the carries, 'dots' also the products, 'none' everything."""
    kept = {}
    for remat in REMAT:
        run, arguments = loss(layers, remat)
        residuals = jax.tree.leaves(jax.vjp(run, *arguments)[1])
        kept[remat] = sum(leaf.size for leaf in residuals)
    assert kept["full"] < kept["dots"] < kept["none"]
