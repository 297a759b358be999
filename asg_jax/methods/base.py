"""What a program needs to know of a method: its state, one step, and what a step reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL.Image import Image as Picture

from asg_jax.backbone import Adapter, PyTree
from asg_jax.pytree import pytree


@pytree
class RoleState:
    """What one role has learned.

    Attributes:
      adapter: its trained factors.
      average: moving average of the factors over updates; what evaluation uses.
      optimizer: state of the Optax transformation.
      kl_coefficient: adaptive weight of the drift from the frozen model.
    """

    adapter: Adapter
    average: Adapter
    optimizer: PyTree
    kl_coefficient: Float[Array, ""]


@pytree
class TrainState:
    """Everything on devices that a run needs to go on bit for bit.

    Attributes:
      seed: of every random number.
      step: steps that were taken.
      roles: by name.
      anchor: factors of an older Generator, which `nft` mirrors at.
      baseline: moving average of the Solver's reward.
      entropy_target: moving target of the vote entropy, in nats.
      window: recent token entropies (`signals.difficulty.empty_window`).
      skipped: updates that were left out because they were not finite.
    """

    seed: Int[Array, ""]
    step: Int[Array, ""]
    roles: Mapping[str, RoleState]
    anchor: Adapter
    baseline: Float[Array, ""]
    entropy_target: Float[Array, ""]
    window: Float[Array, " W"]
    skipped: Int[Array, ""]


@dataclass(frozen=True)
class Kept:
    """A drawn picture that is good enough to be learned from again."""

    pixels: UInt8[np.ndarray, "H W 3"]
    reward: float


@dataclass(frozen=True)
class Report:
    """What one step tells the world; everything of this process's examples.

    Attributes:
      phase: "understanding" or "generation".
      metrics: by name with a group in front ("reward/proposer"); means over all processes.
      rows: of a table of questions, answers and rewards (or prompts and scores), for people.
      pictures: to look at, by caption.
      kept: pictures for the replay buffer.
    """

    phase: str
    metrics: Mapping[str, float]
    rows: Sequence[Mapping[str, Any]] = ()
    pictures: Mapping[str, UInt8[np.ndarray, "H W 3"]] = field(default_factory=dict)
    kept: Sequence[Kept] = ()


class Placement(Protocol):
    """Batches between a process's own memory and the devices of all processes.

    The first axis of every array counts examples.
    """

    def put(self, tree: PyTree) -> PyTree:
        """NumPy arrays of this process's examples as arrays of all processes' examples."""
        ...

    def get(self, tree: PyTree) -> PyTree:
        """This process's examples as NumPy arrays; what is the same for all comes whole."""
        ...


@dataclass(frozen=True)
class OneDevice:
    """A single process with a single device."""

    def put(self, tree: PyTree) -> PyTree:
        """See `Placement`."""
        return jax.device_put(tree)

    def get(self, tree: PyTree) -> PyTree:
        """See `Placement`."""
        return jax.device_get(tree)


class Method(Protocol):
    """A preset that improves the roles of a model from unlabeled pictures."""

    def init(self, seed: int) -> TrainState:
        """The state before the first step, with adapters that change nothing yet; jit-able."""
        ...

    def step(
        self, state: TrainState, pictures: Sequence[Picture], ids: Sequence[int]
    ) -> tuple[TrainState, Report]:
        """One step (understanding or generation, by the schedule) on this process's pictures.

        All randomness depends on the seed, the step and the ids, which number the pictures. The
        given state is used up: its memory may be that of the new one.
        """
        ...
