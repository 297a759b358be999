"""Options of XLA that matter for this package's programs, by platform, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Any, TypeVar

import jax

Result = TypeVar("Result")

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "gpu": {
        # A Triton matmul cannot cut its operand out of a stack of layers: the scan over layers then
        # copies every kernel of a layer before it multiplies, three times the bytes that a decoding
        # step needs. cuBLAS takes the slice's address. Compiling is faster, too.
        "xla_gpu_enable_triton_gemm": False,
        # Merging the matmuls of q, k and v joins their kernels anew in every layer of every step.
        "xla_gpu_dot_merger_threshold_mb": 0,
    },
}


def compiler_options(platform: str) -> dict[str, Any]:
    """What `jax.jit` takes as `compiler_options` on a platform ("cpu", "gpu", "tpu")."""
    return dict(_OPTIONS.get(platform, {}))


def jit(function: Callable[..., Result], **options: Any) -> Callable[..., Result]:
    """`jax.jit` that tells the compiler what suits the platform of the first call.

    Args:
      function: what is compiled.
      options: as `jax.jit` takes them.
    """

    @cache
    def program() -> Callable[..., Result]:
        told = compiler_options(jax.default_backend())
        return jax.jit(function, compiler_options=told, **options)

    @wraps(function)
    def call(*arguments: Any) -> Result:
        return program()(*arguments)

    return call
