"""Bounds: values and gradients, also where nothing is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.ops.bounds import at_least, at_most

X = jnp.array([-jnp.inf, -3.0, -1.0, 0.5, 2.0, jnp.inf, jnp.nan])
both = pytest.mark.parametrize(
    ("bound", "like", "inside"),
    [(at_most, jnp.minimum, X < 1), (at_least, jnp.maximum, X > 1)],
    ids=["at most", "at least"],
)


@both
def test_values_are_those_of_minimum_and_maximum(bound, like, inside):
    np.testing.assert_array_equal(bound(X, 1.0), like(X, 1.0))


@both
def test_the_gradient_passes_inside_the_bound_alone(bound, like, inside):
    gradient = jax.vmap(jax.grad(lambda x: bound(x, 1.0)))(X)
    np.testing.assert_array_equal(gradient[:-1], inside[:-1])


@both
def test_the_bound_itself_passes_the_gradient(bound, like, inside):
    assert jax.grad(lambda x: bound(x, 1.0))(1.0) == 1


@both
def test_the_gradient_asks_for_no_exact_equality(bound, like, inside):
    compares = lambda f: " eq " in str(jax.make_jaxpr(jax.grad(lambda x: f(x, 1.0)))(0.5))
    assert compares(like) and not compares(bound)
