"""Parameters without training, for measuring models of any size."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from asg_jax.backbone import PyTree
from asg_jax.models.checkpoint import paths


def random_base(abstract: PyTree, place: PyTree | None) -> PyTree:
    """Normal numbers for kernels and tables, ones for norms, zeros for biases.

    There is one small program for each shape: one for all parameters takes minutes to compile.

    Args:
      abstract: shapes and dtypes.
      place: the sharding of every parameter; the default device without them.
    """
    leaves, structure = jax.tree.flatten(abstract)
    names = [name.rpartition(".")[2] for name, _ in paths(abstract)]
    places = structure.flatten_up_to(place) if place else [None] * len(leaves)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    made = [
        _program(leaf.shape, leaf.dtype, name, where)(key)
        for leaf, name, where, key in zip(leaves, names, places, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, made)


@cache
def _program(shape: tuple[int, ...], dtype: jnp.dtype, name: str, place: Any) -> Any:
    """Makes a parameter of that name from a key."""

    def make(key: jax.Array) -> jax.Array:
        if name == "weight":
            return jnp.ones(shape, dtype)
        if name.endswith("bias"):
            return jnp.zeros(shape, dtype)
        width = shape[-2] ** -0.5 if name == "kernel" else 0.02
        return (width * jax.random.normal(key, shape)).astype(dtype)

    return jax.jit(make, out_shardings=place)
