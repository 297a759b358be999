"""Batches in slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.ops.slices import part, uncut

TREE = {"a": jnp.arange(6), "b": (jnp.arange(12.0).reshape(6, 2), jnp.ones((6, 3, 1), bool))}


def cut(tree, slices):
    """All slices one after another, as a loop takes them."""
    return jax.lax.map(lambda n: part(tree, slices, n), jnp.arange(slices))


def test_every_slice_takes_every_nth_example():
    assert cut(TREE, 2)["a"].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert cut(TREE, 3)["a"].tolist() == [[0, 3], [1, 4], [2, 5]]
    np.testing.assert_array_equal(cut(TREE, 2)["b"][0][1], TREE["b"][0][1::2])


@pytest.mark.parametrize("slices", [1, 2, 3, 6])
def test_uncut_is_the_inverse(slices):
    parts = cut(TREE, slices)
    assert all(x.shape[:2] == (slices, 6 // slices) for x in jax.tree.leaves(parts))
    jax.tree.map(np.testing.assert_array_equal, uncut(parts), TREE)


def test_keys_are_cut_too():
    keys = jax.random.split(jax.random.key(0), 4)
    assert (uncut(cut(keys, 2)) == keys).all() and (cut(keys, 2)[1] == keys[1::2]).all()


def test_an_uneven_cut_is_an_error():
    with pytest.raises(TypeError):
        cut(TREE, 4)
