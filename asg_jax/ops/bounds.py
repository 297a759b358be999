"""Bounds that a gradient may pass.

The gradient of `jnp.minimum` finds the smaller argument by comparing both with the result. Under
jit the compiler may compute an argument a second time for that comparison, rounded otherwise; then
none is equal, and the gradient is lost. These functions compare with the bound instead.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

Bound = float | Float[Array, ""]


def at_most(x: Float[Array, "*batch"], bound: Bound) -> Float[Array, "*batch"]:
    """min(x, bound), whose gradient is 0 above the bound; NaN stays NaN."""
    return jnp.where(x > bound, bound, x)


def at_least(x: Float[Array, "*batch"], bound: Bound) -> Float[Array, "*batch"]:
    """max(x, bound), whose gradient is 0 below the bound; NaN stays NaN."""
    return jnp.where(x < bound, bound, x)
