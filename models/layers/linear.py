"""Linear maps, embeddings, and the low-rank adapters that attach to them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from asg_jax.backbone import Adapter, LoRA
from asg_jax.models.layers.attention import platform
from asg_jax.models.layers.stack import kept
from asg_jax.ops.int8 import Int8
from asg_jax.ops.matmul import matmul_float32

FEW = 256  # rows
TILE = 8  # rows of a matmul on GPUs are a multiple
PARTS = 64  # of the inputs of a low-rank factor, which are summed side by side


class Linear(nnx.Module):
    """x W + b in the dtype of x, plus the low-rank update of an attached adapter.

    A frozen kernel may be held as `Int8`.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, rngs: nnx.Rngs):
        scale = 1 / math.sqrt(inputs)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (inputs, outputs)) * scale)
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.lora: _Factors | None = None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        if not _few_rows(x):
            return kept(self._map(x))
        # In whole tiles from the start: else XLA pads each of the products that follow.
        rows = x.reshape(-1, x.shape[-1])
        y = self._map(jnp.pad(rows, ((0, -len(rows) % TILE), (0, 0))))
        return kept(y[: len(rows)].reshape(*x.shape[:-1], -1))

    def _map(self, x: Array) -> Array:
        held, lora = self.kernel[...], self.lora
        if isinstance(held, Int8):
            y = matmul_float32(x, held.values.astype(x.dtype)) * held.scale
            y = (y if lora is None else y + lora(x)).astype(x.dtype)
        elif lora is None:
            y = x @ held.astype(x.dtype)
        elif _updates_kernel(x, kernel := held.astype(x.dtype)):
            y = x @ (kernel + lora.update())
        else:
            # One rounding: a sum of two rounded parts would lose every update below half an ulp.
            y = (matmul_float32(x, kernel) + lora(x)).astype(x.dtype)
        if self.bias is None:
            return y
        if platform() == "gpu" and x.size // x.shape[-1] < x.shape[-1]:
            # The kernel is what a matmul reads. cuBLAS takes it where it lies in its stack, unless
            # it adds a bias, too: then XLA copies it first.
            y = jax.lax.optimization_barrier(y)
        return y + self.bias[...].astype(x.dtype)


def _few_rows(x: Array) -> bool:
    """Whether GPUs wait for memory and for the start of kernels, as when tokens are drawn."""
    return platform() == "gpu" and x.size // x.shape[-1] <= FEW


def _updates_kernel(x: Array, kernel: Array) -> bool:
    """Whether to form W + A B and multiply once: where that is less work, in float32 on CPUs.

    Smaller dtypes, and accelerators that round the operands, would round the update away.
    """
    inputs, outputs = kernel.shape
    less = x.size // inputs * (inputs + outputs) > inputs * outputs
    return less and x.dtype == jnp.float32 and jax.default_backend() == "cpu"


class Embedding(nnx.Module):
    """A table of rows; `table` also serves as an unembedding (rows, width)."""

    def __init__(self, rows: int, width: int, *, scale: float = 0.02, rngs: nnx.Rngs):
        self.table = nnx.Param(jax.random.normal(rngs.params(), (rows, width)) * scale)

    def __call__(self, ids: Int[Array, "*batch"]) -> Float[Array, "*batch width"]:
        return self.table[...][ids]


class _Factors(nnx.Module):
    """The factors of one adapter module as NNX state, so that scans slice them with the layer."""

    def __init__(self, lora: LoRA):
        self.a = nnx.Param(lora.a)
        self.b = nnx.Param(lora.b)
        self.scale = lora.scale

    def update(self) -> Float[Array, "inputs outputs"]:
        return self.a[...] @ self.b[...] * self.scale

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """The update in float32; the factors multiply in the dtype of x."""
        a = self.a[...].astype(x.dtype)
        inner = _by_parts(x, a) if _few_rows(x) else x @ a
        return matmul_float32(inner, self.b[...]) * self.scale


def _by_parts(x: Array, a: Array) -> Array:
    """x A, summed over parts of the inputs side by side.

    Few rows and a small rank make one tile, for which one processor would walk along all inputs.
    """
    parts = math.gcd(a.shape[0], PARTS)
    split = x.reshape(*x.shape[:-1], parts, -1), a.reshape(parts, -1, a.shape[1])
    sums = jnp.einsum("...pi,pir->p...r", *split, preferred_element_type=jnp.float32)
    return sums.sum(0).astype(x.dtype)


def attach(model: nnx.Module, adapter: Adapter | None) -> None:
    """Hangs an adapter into a merged model.

    Raises:
      KeyError: a module path of the adapter names no linear map of the model.
    """
    for path, lora in (adapter or {}).items():
        module = model
        for name in path.split("."):
            module = getattr(module, name, None)
        if not isinstance(module, Linear):
            raise KeyError(f"the adapter names the module '{path}', which the model lacks")
        module.lora = nnx.data(_Factors(lora))
