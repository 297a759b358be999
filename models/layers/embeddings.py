"""Fixed embeddings of time and place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from asg_jax.models.layers.linear import Linear


def sincos_2d(side: int, width: int, period: float = 1e4) -> Float[np.ndarray, "rows width"]:
    """Sine-cosine table of a side x side grid in row-major order (float32).

    The first half of the width encodes the column, the second the row; each half is all sines,
    then all cosines, of angles that turn once in 2 pi rows at first and in 2 pi `period` at last
    (MAE, arXiv 2111.06377).
    """
    frequencies = period ** (-np.arange(width // 4, dtype=np.float64) / (width / 4))
    angles = np.arange(side)[:, None] * frequencies
    axis = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    column, row = np.tile(axis, (side, 1)), np.repeat(axis, side, axis=0)
    return np.concatenate([column, row], axis=1).astype(np.float32)


def sinusoid(t: Float[Array, "*batch"], width: int) -> Float[Array, "*batch width"]:
    """[cos(t f), sin(t f)] with f_k = 10000^(-2k / width), in float32."""
    half = width // 2
    frequencies = jnp.exp(-np.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = t[..., None].astype(jnp.float32) * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimestepEmbedding(nnx.Module):
    """Sinusoid, linear, SiLU, linear; the time is used as it comes."""

    def __init__(self, width: int, *, features: int = 256, rngs: nnx.Rngs):
        self.fc1 = Linear(features, width, rngs=rngs)
        self.fc2 = Linear(width, width, rngs=rngs)
        self.features = features

    def __call__(
        self, t: Float[Array, "*batch"], dtype: str = "float32"
    ) -> Float[Array, "*batch width"]:
        return self.fc2(jax.nn.silu(self.fc1(sinusoid(t, self.features).astype(dtype))))
