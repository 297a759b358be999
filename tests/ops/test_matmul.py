"""The matmul whose sum stays in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.ops.matmul import matmul_float32


def normal(seed, *shape, dtype=jnp.bfloat16):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.parametrize("axis", [0, 1])
def test_sums_are_not_rounded(axis):
    x, weight = normal(0, 2, 3, 64), normal(1, 64, 5)
    exact = np.asarray(x, np.float64) @ np.asarray(weight, np.float64)
    out = matmul_float32(x, weight if axis == 0 else weight.T, axis)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, exact, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_plain_product():
    x, weight = normal(0, 3, 8, dtype=jnp.float32), normal(1, 8, 5, dtype=jnp.float32)
    loss = lambda product: lambda x, weight: jnp.sin(product(x, weight)).sum()
    gradients = jax.grad(loss(matmul_float32), (0, 1))(x, weight)
    for got, want in zip(gradients, jax.grad(loss(jnp.matmul), (0, 1))(x, weight), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_backward_pass_makes_no_float32_copy_of_the_weight():
    x, weight = normal(0, 3, 8), normal(1, 8, 5)
    gradient = jax.grad(lambda x: matmul_float32(x, weight).sum())
    assert "f32[8,5]" not in jax.jit(gradient).lower(x).as_text("hlo")
