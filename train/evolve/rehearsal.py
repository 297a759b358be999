"""Steps that meet their programs with shapes alone, so that all can be compiled beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr
from jax.sharding import NamedSharding
from PIL.Image import Image as Picture

from asg_jax.backbone import PyTree
from asg_jax.engine.method import Examples, Method
from asg_jax.engine.placement import Program, Update
from asg_jax.models.sharding import state_shardings
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.placement import MeshPlacement
from asg_jax.train.mesh import BATCH, OnMesh

Shape = jax.ShapeDtypeStruct


@dataclass(frozen=True)
class Visit:
    """A program as a step meets it.

    Attributes:
      phase: which kind of step runs the program.
      name: how the program is called, with the number and length of texts where it samples them.
      lowered: ready to be compiled; one object for all visits with the same shapes.
      held: bytes of one device that the step's batches and results take so far, the program's own
        batch included and its results not.
      jaxpr: gives what it computes, all devices together.
    """

    phase: str
    name: str
    lowered: jax.stages.Lowered
    held: int
    jaxpr: Callable[[], Jaxpr]


@dataclass(frozen=True)
class Played:
    """A program that ran.

    Attributes:
      phase: which kind of step ran the program.
      name: as of a visit.
      seconds: time between its start, all that it needs being there, and its results.
      lower: gives the program as it was compiled.
      arguments: what it was given; an update uses its own up.
      out: what it gave.
    """

    phase: str
    name: str
    seconds: float
    lower: Callable[[], jax.stages.Lowered]
    arguments: tuple[PyTree, ...]
    out: Any


Meet = Callable[[Visit], None]
Watch = Callable[[Played], None]


@dataclass
class _Stage:
    """Where a rehearsal is; outside of one nobody meets anything, nor watches."""

    meet: Meet | None = None
    watch: Watch | None = None
    phase: str = ""
    held: int = 0
    lowered: dict[Any, jax.stages.Lowered] = field(default_factory=dict)


@dataclass(frozen=True)
class Rehearsable(MeshPlacement):
    """Devices, which need not be there for a rehearsal.

    While one goes on, programs do not run: they are met with shapes and give shapes back, and what
    the host reads is zeros. The programs and shapes of a step do not depend on what is said and
    drawn. What is lowered and compiled meanwhile is what the steps find when they run.
    """

    _stage: _Stage = field(default_factory=_Stage, compare=False)

    def rehearse(self, method: Method, config: RunConfig, picture: Picture, meet: Meet) -> None:
        """Takes one step of every phase.

        Args:
          method: made with this placement.
          config: the run's settings.
          picture: stands for all; its size is that of the run's pictures.
          meet: told of every program, in the order of the steps.
        """
        stage = self._stage
        stage.meet = meet
        try:
            state, step = self.state(method, config), 1
            for phase in method.phases:
                if phase.steps:
                    stage.phase, stage.held = phase.name, 0
                    rows = self.share.rows(getattr(config.batch, phase.batch))
                    request = method.prepare([picture] * len(rows))
                    method.step(state, Examples(config.seed, step, rows, rows, request))
                step += phase.steps
        finally:
            stage.meet = None
            stage.lowered.clear()

    @contextmanager
    def watched(self, phase: str, watch: Watch) -> Iterator[None]:
        """Times every program that runs meanwhile, each alone.

        Args:
          phase: which kind of step is taken.
          watch: told of every program, in the order of the step.
        """
        self._stage.phase, self._stage.watch = phase, watch
        try:
            yield
        finally:
            self._stage.watch = None

    def state(self, method: Method, config: RunConfig) -> PyTree:
        """The shapes of a run's state as it lies on devices."""
        state = jax.eval_shape(partial(method.init, config.seed))
        lay = lambda leaf, to: Shape(leaf.shape, leaf.dtype, sharding=to)
        return jax.tree.map(lay, state, state_shardings(state, self.mesh, self.rules))

    def put(self, tree: PyTree) -> PyTree:
        """See `asg_jax.engine.placement.Placement`."""
        if self._stage.meet is None:
            return super().put(tree)
        own, examples = self.share, NamedSharding(self.mesh, BATCH)

        def lay(leaf: Any) -> Shape:
            rows = len(leaf) * own.count // len(own.parts)
            dtype = jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)
            return Shape((rows, *np.shape(leaf)[1:]), dtype, sharding=examples)

        laid = jax.tree.map(lay, tree)
        self._stage.held += device_bytes(laid)
        return laid

    def get(self, tree: PyTree) -> PyTree:
        """See `asg_jax.engine.placement.Placement`."""
        return super().get(tree) if self._stage.meet is None else jax.tree.map(self._zeros, tree)

    def compile(self, program: Program) -> Program:
        """See `asg_jax.engine.placement.Placement`."""
        return partial(self._play, program, super().compile(program))

    def compile_update(self, update: Update) -> Update:
        """See `asg_jax.engine.placement.Placement`."""
        made: list[OnMesh] = []

        def run(parameters: PyTree, state: PyTree, batch: PyTree) -> tuple[Any, Any, Any]:
            if not made:
                made.append(self.update_of(update, state))
            return self._play(update, made[0], parameters, state, batch)

        return run

    def _play(self, program: Any, made: Any, *arguments: PyTree) -> Any:
        """Runs a program, or meets it."""
        stage = self._stage
        if stage.watch is not None:
            return self._watched(stage.watch, program, made, arguments)
        if stage.meet is None:
            return made(*arguments)
        leaves, structure = jax.tree.flatten(arguments)
        shapes = tuple((leaf.shape, leaf.dtype, leaf.sharding) for leaf in leaves)
        key = (made, structure, shapes)
        if key not in stage.lowered:
            stage.lowered[key] = made.lower(*arguments)
        lowered = stage.lowered[key]
        name = _named(program.__name__, lowered.out_info)
        jaxpr = partial(made.jaxpr, *arguments)
        stage.meet(Visit(stage.phase, name, lowered, stage.held, jaxpr))
        stage.held += device_bytes(lowered.out_info)
        return lowered.out_info

    def _watched(self, watch: Watch, program: Any, made: Any, arguments: tuple[PyTree, ...]) -> Any:
        """Runs a program and tells how long it took."""
        shape = lambda leaf: Shape(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        shapes = jax.tree.map(shape, jax.block_until_ready(arguments))  # some are used up below
        start = perf_counter()
        out = jax.block_until_ready(made(*arguments))
        seconds = perf_counter() - start
        name = _named(program.__name__, out)
        lower = partial(made.lower, *shapes)
        watch(Played(self._stage.phase, name, seconds, lower, arguments, out))
        return out

    def _zeros(self, leaf: Shape) -> np.ndarray:
        """What this process would read of an array."""
        assert leaf.sharding is not None
        own, whole = self.share, leaf.sharding.is_fully_replicated
        rows = leaf.shape[0] if whole else leaf.shape[0] * len(own.parts) // own.count
        return np.zeros((rows, *leaf.shape[1:]), leaf.dtype)


def device_bytes(tree: PyTree) -> int:
    """Bytes that arrays, or their shapes with shardings, take on one device."""

    def of(leaf: Any) -> int:
        return int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize

    return sum(map(of, jax.tree.leaves(tree)))


def _named(name: str, out: Any) -> str:
    """Programs that continue texts differ by how many texts, and of how many tokens."""
    shape: Sequence[int] = getattr(getattr(out, "ids", None), "shape", ())
    return f"{name} {shape[1]} x {shape[2]}" if shape else name
