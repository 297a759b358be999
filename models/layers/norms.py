"""Normalisation layers: statistics in float32, result in the dtype of the input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def standardize(x: Float[Array, "*batch width"], eps: float) -> Float[Array, "*batch width"]:
    """(x - mean) / std over the last axis."""
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, -1, keepdims=True)
    return (y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + eps)).astype(x.dtype)


class RMSNorm(nnx.Module):
    """x / rms(x), cast back, times the weight."""

    def __init__(self, width: int, *, eps: float):
        self.weight = nnx.Param(jnp.ones(width))
        self.eps = eps

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
        return y.astype(x.dtype) * self.weight[...].astype(x.dtype)


class LayerNorm(nnx.Module):
    """(x - mean) / std times the weight plus the bias, over the last axis."""

    def __init__(self, width: int, *, eps: float):
        self.weight = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.eps = eps

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        y = standardize(x.astype(jnp.float32), self.eps)
        return (y * self.weight[...] + self.bias[...]).astype(x.dtype)


class GroupNorm(nnx.Module):
    """Normalisation over pixels and the channels of one group, channels last."""

    def __init__(self, channels: int, *, groups: int = 32, eps: float = 1e-6):
        self.weight = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.groups = groups
        self.eps = eps

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        y = x.astype(jnp.float32).reshape(batch, height * width, self.groups, -1)
        y = y - jnp.mean(y, (1, 3), keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, (1, 3), keepdims=True) + self.eps)
        y = y.reshape(batch, height, width, channels)
        return (y * self.weight[...] + self.bias[...]).astype(x.dtype)
