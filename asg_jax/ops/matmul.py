"""A matmul of small dtypes whose sum stays in float32."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _contract(x: Array, weight: Array, axis: int, dtype: jnp.dtype) -> Array:
    return jnp.tensordot(x, weight.astype(x.dtype), (-1, axis), preferred_element_type=dtype)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def matmul_float32(
    x: Float[Array, "*rows inputs"], weight: Float[Array, "_ _"], axis: int = 0
) -> Float[Array, "*rows outputs"]:
    """Multiplies in the dtype of `x`, sums in float32, and returns the sums unrounded.

    Args:
      x: rows; their last axis is summed over.
      weight: a matrix in any dtype.
      axis: the axis of `weight` that is summed over.
    """
    return _contract(x, weight, axis, jnp.dtype(jnp.float32))


@matmul_float32.defjvp
def _matmul_float32_jvp(
    axis: int, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (x, weight), (d_x, d_weight) = primals, tangents
    # Transposed, this multiplies cotangents in the dtype of `x`. The automatic rule keeps them in
    # float32, and a matmul of mixed dtypes may cost a float32 copy of the weight.
    tangent = _contract(d_x, weight, axis, x.dtype)
    tangent += _contract(x, d_weight, axis, x.dtype)
    return matmul_float32(x, weight, axis), tangent.astype(jnp.float32)
