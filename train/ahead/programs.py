"""Compiling a program for a topology, and what it takes there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from asg_jax.train.ahead.chips import Chip
from asg_jax.train.ahead.hlo import Program


@dataclass(frozen=True)
class Collective:
    """All collectives of one kind in a run of a program, on one device.

    Attributes:
      count: how often they run.
      bytes: size of their results.
    """

    count: int
    bytes: int


@dataclass(frozen=True)
class ProgramReport:
    """What a program takes on one device of a topology; sizes in bytes.

    Attributes:
      name: names the program.
      topology: where it would run.
      devices: how many devices share it.
      arguments: parameters and batch, as they are cut.
      outputs: results, those that take over the place of an argument included.
      aliased: results that take over the place of a donated argument.
      temporaries: everything in between, at its largest.
      code: the program itself.
      peak: the compiler's own figure for all of it, which may leave some out.
      memory: what the device has.
      flops: operations of matmuls and convolutions, loops counted as often as they run. What fused
        attention kernels do is not among them.
      traffic: bytes that kernels read from and write to main memory.
      collectives: how often each kind runs and what it moves, by kind.
      open_loops: a loop ends when the data say so, and counts as often as it may run.
      seconds: the least time that operations, traffic or collectives take, whichever is most.
      compile_seconds: what compiling took here.
      error: why the compiler refused, empty if it did not.
    """

    name: str
    topology: str
    devices: int
    memory: int
    compile_seconds: float
    arguments: int = 0
    outputs: int = 0
    aliased: int = 0
    temporaries: int = 0
    code: int = 0
    peak: int = 0
    flops: float = 0
    traffic: float = 0
    collectives: dict[str, Collective] | None = None
    open_loops: bool = False
    seconds: float = 0
    error: str = ""

    @property
    def needed(self) -> int:
        """An upper bound of the memory that it takes."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code

    @property
    def verdict(self) -> str:
        """Whether it fits: the compiler refuses TPU programs that do not, but not GPU ones."""
        if self.error:
            return "does not fit" if "RESOURCE_EXHAUSTED" in self.error else "does not compile"
        return "fits" if self.needed <= self.memory else "does not fit"


def compile_ahead(
    name: str,
    function: Any,
    arguments: Sequence[Any],
    topology: str,
    chip: Chip,
    mesh: Mesh,
) -> ProgramReport:
    """Compiles a program for devices that are not there and reads what it became.

    Args:
      name: how the report calls the program.
      function: what `jax.jit` returns.
      arguments: `jax.ShapeDtypeStruct`s with shardings of the mesh, and static arguments.
      topology: as given to `chips.topology`.
      chip: as returned by it.
      mesh: its devices, set while the program is traced.
    """
    with jax.set_mesh(mesh):
        lowered = function.lower(*arguments)
    return measure(name, lowered, topology, chip, mesh.size)


def measure(
    name: str, lowered: jax.stages.Lowered, topology: str, chip: Chip, devices: int
) -> ProgramReport:
    """Compiles a lowered program and reads what it became; see `compile_ahead`.

    Args:
      name: how the report calls the program.
      lowered: the program, lowered for the devices of a topology.
      topology: as given to `chips.topology`.
      chip: as returned by it.
      devices: how many share the program.
    """
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        spent = time.perf_counter() - start
        return ProgramReport(name, topology, devices, chip.memory, spent, error=str(error)[:2000])
    spent = time.perf_counter() - start
    memory, cost = compiled.memory_analysis(), Program(compiled.as_text() or "").total
    assert memory is not None  # every compiler for accelerators counts it
    travelled = sum(cost.collectives.values())
    return ProgramReport(
        name,
        topology,
        devices,
        chip.memory,
        spent,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        flops=cost.flops,
        traffic=cost.bytes,
        collectives={
            kind: Collective(cost.counts[kind], int(cost.collectives[kind])) for kind in cost.counts
        },
        open_loops=cost.open_loops,
        seconds=max(cost.flops / chip.flops, cost.bytes / chip.bandwidth, travelled / chip.links),
    )
