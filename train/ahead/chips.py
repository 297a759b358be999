"""Accelerators to compile for: what they have, and how to name them to the compiler.

Memory is what a program can use, as the compiler itself reports it for TPUs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jax.experimental.topologies import get_topology_desc

from asg_jax.errors import UserError

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One device of a topology, as JAX counts devices.

    Attributes:
      memory: bytes that programs can use.
      flops: peak bfloat16 operations a second.
      bandwidth: bytes that its memory moves in a second.
      links: bytes a second to other chips, one way, all links together.
    """

    memory: int
    flops: float
    bandwidth: float
    links: float


# From the vendors' data sheets. A v4 chip is two devices; its numbers are those of one.
CHIPS: Mapping[str, Chip] = {
    "v4": Chip(int(15.75 * GIB), 137.5e12, 0.6e12, 135e9),
    "v5e": Chip(int(15.75 * GIB), 197e12, 0.82e12, 180e9),
    "v5p": Chip(int(95.74 * GIB), 459e12, 2.765e12, 540e9),
    "v6e": Chip(int(31.25 * GIB), 918e12, 1.64e12, 360e9),
    "h100": Chip(84942979072, 989e12, 3.35e12, 450e9),
    "h200": Chip(151397597184, 989e12, 4.8e12, 450e9),
}

# What XLA asks of a card: the cards differ in their memory alone.
_HOPPER = {
    "h100": ("NVIDIA H100 80GB HBM3", 3352320000000, 2619000),
    "h200": ("NVIDIA H200 141GB HBM3e", 4800000000000, 3750000),
}
_TARGET = """gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  device_vendor: "NVIDIA Corporation"
  platform_version: "Compute Capability 9.0a"
  model_str: "sm_9.0a with {memory}B RAM, 132 cores, 1980000KHz clock, {clock}KHz mem clock"
  device_address_bits: 64
  pcie_bandwidth: 34359738368
  ecc_enabled: true
  name: "{name}"
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
  device_interconnect_info {{ active_links: 18 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{name}"
"""

# libtpu is not to ask a cloud machine what it is, nor to lock out other processes.
_TPU_SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def topology(name: str) -> tuple[Chip, list[Any]]:
    """The kind of chip that a topology consists of, and its devices, none of which is there.

    Args:
      name: a chip and how many of them: `v5e:4x4`, `v5p:2x2x2`, `v5e:1x1`; or `h100`, `h200:8`.

    Raises:
      UserError: the chip is unknown, or its compiler is not installed or knows no such topology.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"(\d+(x\d+)*)?", shape):
        raise UserError(
            f"there is no topology '{name}'; write a chip ({', '.join(CHIPS)}) and a shape, "
            "such as v5e:4x4 or h200:8."
        )
    try:
        devices = _gpus(kind, shape) if kind in _HOPPER else _tpus(kind, shape)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        extra = "cuda" if kind in _HOPPER else "tpu"
        raise UserError(
            f"'{name}' cannot be compiled for ({str(error).splitlines()[0]}); the compiler comes "
            f'with `pip install "asg-jax[{extra}]"`.'
        ) from error
    return CHIPS[kind], devices


def _gpus(kind: str, shape: str) -> list[Any]:
    name, bandwidth, clock = _HOPPER[kind]
    target = _TARGET.format(name=name, bandwidth=bandwidth, clock=clock, memory=CHIPS[kind].memory)
    count = int(shape or 1)
    described = get_topology_desc("gpu", "cuda", target_config=target, topology=f"1x1x{count}")
    return list(described.devices)


def _tpus(kind: str, shape: str) -> list[Any]:
    for key, value in _TPU_SETTINGS.items():
        os.environ.setdefault(key, value)
    shape = shape or "2x2"
    bounds: dict[str, Any] = {}
    if set(shape.split("x")) == {"1"}:
        bounds = {"chips_per_host_bounds": (1, 1, 1)}
    return list(get_topology_desc(f"{kind}:{shape}", "tpu", **bounds).devices)
