"""Options of XLA that matter for this package's programs, by platform, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

_OPTIONS_OF_MANY: Mapping[str, Mapping[str, Any]] = {
    "cpu": {
        # Else two collectives of one program may run side by side, and devices that share threads
        # join them in different orders: each waits for the others for ever (JAX 0.12).
        "xla_cpu_enable_concurrency_optimized_scheduler": False,
    },
}


def compiler_options(platform: str, devices: int = 1) -> dict[str, Any]:
    """What `jax.jit` takes as `compiler_options`.

    Args:
      platform: "cpu", "gpu" or "tpu".
      devices: how many run the program together.
    """
    many = _OPTIONS_OF_MANY.get(platform, {}) if devices > 1 else {}
    return {**_OPTIONS.get(platform, {}), **many}
