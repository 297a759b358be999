"""Frozen matrices in 8 bits: integers, and a factor for each output.

Absolute maxima per output channel, weights alone (LLM.int8(), arXiv 2208.07339, section 2.1).
"""

from __future__ import annotations

from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float
from jaxtyping import Int8 as Bytes

from asg_jax.pytree import pytree

LARGEST = 127


@pytree
class Int8:
    """A matrix, or a stack of them: each column is `values` times its number of `scale`."""

    values: Bytes[Array, "*layers inputs outputs"]
    scale: Float[Array, "*layers outputs"]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the matrix."""
        return self.values.shape

    @property
    def ndim(self) -> int:
        """Axes of the matrix."""
        return self.values.ndim

    def __getitem__(self, index: EllipsisType) -> Int8:
        """Itself, as an array gives all of itself for `...`."""
        return self


def quantize(matrix: Array | jax.ShapeDtypeStruct) -> Int8:
    """A matrix or a stack (*layers, inputs, outputs) in 8 bits, or the shapes of that.

    An array is deleted: a large model would not fit beside its copy.
    """
    if isinstance(matrix, jax.ShapeDtypeStruct):
        return _shapes(matrix)
    held = _quantize(matrix)
    matrix.delete()
    return held


@jax.jit
def _quantize(matrix: Array) -> Int8:
    wide = matrix.astype(jnp.float32)
    scale = jnp.maximum(jnp.abs(wide).max(-2), jnp.finfo(jnp.float32).tiny) / LARGEST
    return Int8(jnp.round(wide / scale[..., None, :]).astype(jnp.int8), scale)


def _shapes(matrix: jax.ShapeDtypeStruct) -> Int8:
    *layers, _, outputs = matrix.shape
    place, columns = matrix.sharding, None
    if isinstance(place, NamedSharding):
        axes = (*place.spec, *[None] * (len(matrix.shape) - len(place.spec)))
        columns = NamedSharding(place.mesh, PartitionSpec(*axes[:-2], axes[-1]))
    values: Any = jax.ShapeDtypeStruct(matrix.shape, jnp.int8, sharding=place)
    scale: Any = jax.ShapeDtypeStruct((*layers, outputs), jnp.float32, sharding=columns)
    return Int8(values, scale)
