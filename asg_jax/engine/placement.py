"""Batches between a process's own memory and the devices of all processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from asg_jax.backbone import PyTree

Program = Callable[[Any, Any], Any]  # (parameters, batch) -> out
Update = Callable[[Any, Any, Any], tuple[Any, Any, Any]]  # (parameters, state, batch), see below


class Placement(Protocol):
    """Puts batches on devices; the first axis of every array counts examples."""

    @property
    def shares(self) -> int:
        """Parts into which devices cut the examples of a batch."""
        ...

    def put(self, tree: PyTree) -> PyTree:
        """NumPy arrays of this process's examples as arrays of all processes' examples."""
        ...

    def get(self, tree: PyTree) -> PyTree:
        """This process's examples as NumPy arrays; what is the same for all comes whole."""
        ...

    def place_state(self, tree: PyTree) -> PyTree:
        """Arrays that every process has alike, laid on the devices as a state is kept there."""
        ...

    def compile(self, program: Program) -> Program:
        """Compiles (parameters, batch) -> out; in batch and out the first axis counts examples."""
        ...

    def compile_update(self, update: Update) -> Update:
        """Compiles (parameters, state, batch) -> (state, metrics, rows).

        The new state takes the memory of the old one and lies as that did. Metrics are whole
        everywhere; in batch and rows the first axis counts examples.
        """
        ...


@dataclass(frozen=True)
class OneDevice:
    """A single process with a single device."""

    shares: int = 1

    def put(self, tree: PyTree) -> PyTree:
        """See `Placement`."""
        return jax.device_put(tree)

    def get(self, tree: PyTree) -> PyTree:
        """See `Placement`."""
        return jax.device_get(tree)

    def place_state(self, tree: PyTree) -> PyTree:
        """See `Placement`."""
        return jax.device_put(tree)

    def compile(self, program: Program) -> Program:
        """See `Placement`."""
        return jax.jit(program)

    def compile_update(self, update: Update) -> Update:
        """See `Placement`."""
        return jax.jit(update, donate_argnums=1)
