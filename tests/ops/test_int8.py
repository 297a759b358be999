"""Matrices in 8 bits."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from asg_jax.ops.int8 import Int8, quantize
from asg_jax.train.mesh import make_mesh


def matrices(*shape):
    rng = np.random.default_rng(0)
    columns = 10.0 ** rng.integers(-4, 3, shape[-1])
    return (rng.normal(size=shape) * columns).astype(np.float32)


def test_every_column_errs_by_half_a_step_of_its_own():
    stack = matrices(3, 64, 16)
    held = quantize(jnp.asarray(stack))
    assert (held.values.dtype, held.scale.shape) == (jnp.int8, (3, 16))
    error = np.abs(np.asarray(held.values) * np.asarray(held.scale)[:, None] - stack)
    largest = np.abs(stack).max(1, keepdims=True)
    assert (error <= largest / 127 * 0.501).all()
    np.testing.assert_array_equal(np.abs(held.values).max(1), 127)


def test_zeros_stay_zeros():
    matrix = jnp.zeros((4, 2))
    held = quantize(matrix)
    assert matrix.is_deleted()
    assert not np.asarray(held.values).any() and np.isfinite(held.scale).all()


def test_shapes_are_those_of_arrays_and_are_cut_alike():
    mesh = make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    place = NamedSharding(mesh, PartitionSpec(None, "fsdp", "tensor"))
    known = quantize(jax.ShapeDtypeStruct((3, 64, 16), jnp.bfloat16, sharding=place))
    real = quantize(jnp.zeros((3, 64, 16), jnp.bfloat16))
    assert isinstance(known, Int8) and known.shape == (3, 64, 16)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), known) == jax.tree.map(
        lambda x: (x.shape, x.dtype), real
    )
    assert known.values.sharding == place
    assert known.scale.sharding == NamedSharding(mesh, PartitionSpec(None, "tensor"))
