"""Placements that watch or change what a method's programs do, whatever the method."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from asg_jax.backbone import Processor
from asg_jax.engine.placement import OneDevice, Program
from asg_jax.engine.programs import Inquiry, Replies
from asg_jax.train.ahead.hlo import Program as Compiled


class Executable(NamedTuple):
    """A program compiled for one form of its arguments.

    Attributes:
      run: it.
      compile_seconds: lowering and compiling.
      flops: operations in matmuls and convolutions of one run.
      traffic: bytes that kernels read and write in a run.
      memory: bytes that it takes on the device, its arguments included.
    """

    run: Callable[..., Any]
    compile_seconds: float
    flops: float
    traffic: float
    memory: int


@dataclass(frozen=True)
class Metered(OneDevice):
    """One device, on which every run of a program is noted.

    Attributes:
      runs: programs that ran, one after another; whoever counts empties it.
    """

    runs: list[Executable] = field(default_factory=list)

    def compile(self, program: Program) -> Program:
        """See `Placement`; compiled for each form of its arguments when that first comes."""
        jitted, forms = jax.jit(program), {}

        def run(params: Any, batch: Any) -> Any:
            form = _form((params, batch))
            if form not in forms:
                forms[form] = _compile(jitted, params, batch)
            self.runs.append(forms[form])
            return forms[form].run(params, batch)

        return run


def _compile(jitted: Any, params: Any, batch: Any) -> Executable:
    start = time.perf_counter()
    compiled = jitted.lower(params, batch).compile()
    seconds = time.perf_counter() - start
    memory, cost = compiled.memory_analysis(), Compiled(compiled.as_text()).total
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Executable(compiled, seconds, cost.flops, cost.bytes, held + memory.temp_size_in_bytes)


def _form(tree: Any) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((x.shape, x.dtype, getattr(x, "weak_type", False)) for x in leaves)


@dataclass(frozen=True)
class YesMan(OneDevice):
    """A judge that says yes to every question about a drawing, and is sure of it."""

    processor: Processor = field(kw_only=True)

    def compile(self, program: Program) -> Program:
        """See `Placement`."""
        compiled = jax.jit(program)

        def run(params: Any, batch: Any) -> Any:
            out = compiled(params, batch)
            return self._agree(batch, out) if isinstance(out, Replies) else out

        return run

    def _agree(self, inquiry: Inquiry, replies: Replies) -> Replies:
        answers, probability = replies.answers, replies.probability
        if answers is not None:
            (ids, mask), shape = self._yes(answers.ids.shape[-1]), answers.ids.shape
            alike = lambda x: jnp.broadcast_to(x, shape)
            answers = replace(answers, ids=alike(ids), mask=alike(mask))
        if probability is not None:
            known = inquiry.references
            ids, mask = self._yes(known.ids.shape[-1])
            said = (jnp.where(known.mask, known.ids, 0) == ids).all(-1) & (known.mask == mask).all(
                -1
            )
            probability = jnp.broadcast_to(said[:, None], probability.shape).astype(jnp.float32)
        return replace(replies, answers=answers, probability=probability)

    def _yes(self, room: int) -> tuple[Array, Array]:
        own = np.array([*self.processor.ids("yes"), self.processor.stop_ids[0]])[:room]
        ids = np.zeros(room, np.int32)
        ids[: len(own)] = own
        return jnp.asarray(ids), jnp.arange(room) < len(own)


@dataclass(frozen=True)
class Replaced(OneDevice):
    """One device, on which other functions take the place of some programs.

    Attributes:
      functions: what runs, uncompiled, with the program's static arguments in front.
    """

    functions: dict[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)

    def compile(self, program: Any) -> Program:
        """See `Placement`; a program is a partial application of one of `engine.programs`."""
        other = self.functions.get(program.func)
        if other is None:
            return jax.jit(program)
        return lambda params, batch: other(*program.args, params, batch)
