"""What programs need to know of a method: its phases, one step, and what a step reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8, UInt32
from PIL.Image import Image as Picture

from asg_jax.backbone import Request
from asg_jax.engine.state import TrainState
from asg_jax.signals.table import Signal


@dataclass(frozen=True)
class Phase:
    """One kind of step.

    Attributes:
      name: how metrics and tables call it.
      steps: how many every cycle has; 0 leaves the phase out.
      batch: which of a run's two batch sizes it takes pictures by.
      replays: whether a share of its pictures are drawn ones that were kept.
    """

    name: str
    steps: int
    batch: Literal["understanding", "generation"]
    replays: bool = False


@dataclass(frozen=True)
class Examples:
    """The pictures of a step, this process's share.

    Attributes:
      seed: the run's; every random number depends on it.
      step: counted from 1.
      ids: numbers of the pictures in their source.
      rows: places in the whole batch of all processes, so that a picture that comes twice has
        random numbers of its own each time.
      request: the pictures as `Method.prepare` made them, NumPy arrays; None where nobody looks.
    """

    seed: int
    step: int
    ids: tuple[int, ...]
    rows: tuple[int, ...]
    request: Request | None

    def stream(self, purpose: int) -> UInt32[np.ndarray, "B 5"]:
        """Where random numbers come from; see `asg_jax.engine.programs.keys`."""
        pairs = zip(self.ids, self.rows, strict=True)
        return np.array(
            [[self.seed, self.step, n % 2**32, row, purpose] for n, row in pairs], np.uint32
        )


@dataclass(frozen=True)
class Kept:
    """A drawn picture that is good enough to be learned from again."""

    pixels: UInt8[np.ndarray, "H W 3"]
    reward: float


@dataclass(frozen=True)
class Report:
    """What one step tells the world; everything of this process's examples.

    Attributes:
      phase: name of the phase.
      metrics: means over all processes by name, a group in front ("reward/proposer").
      rows: a table of questions, answers and rewards (or prompts and scores), for people.
      pictures: what people look at, by caption.
      kept: what the replay buffer takes in.
    """

    phase: str
    metrics: Mapping[str, float]
    rows: Sequence[Mapping[str, Any]] = ()
    pictures: Mapping[str, UInt8[np.ndarray, "H W 3"]] = field(default_factory=dict)
    kept: Sequence[Kept] = ()


class Method(Protocol):
    """A preset that improves the roles of a model from unlabeled pictures."""

    @property
    def roles(self) -> Sequence[str]:
        """The roles that it has, those that do not learn included."""
        ...

    @property
    def phases(self) -> Sequence[Phase]:
        """The kinds of steps, in the order of a cycle."""
        ...

    def init(self, seed: int) -> TrainState:
        """The state before the first step, with adapters that change nothing yet."""
        ...

    def prepare(self, pictures: Sequence[Picture]) -> Request:
        """Pictures as arrays on the host; may run in another thread, before their step."""
        ...

    def step(
        self, state: TrainState, examples: Examples
    ) -> tuple[TrainState, Callable[[], Report]]:
        """One step of the phase that is due, on this process's examples.

        All randomness depends on the seed, the step, ids and rows. The given state is used up: its
        memory may be that of the new one. The report waits for the devices when it is called; as
        the next step was begun before, it may not read the returned state.
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """A method that also tells what its signals find in given pictures."""

    def score(
        self,
        state: TrainState,
        examples: Examples,
        texts: Sequence[str],
        pictures: UInt8[np.ndarray, "B L H W 3"],
        signals: Mapping[str, Signal],
    ) -> dict[str, Float[np.ndarray, "B L"]]:
        """How well pictures show a text, by signal.

        Args:
          state: the roles.
          examples: another picture of each text, where a signal compares; questions are answered
            on it first.
          texts: what the pictures are to show.
          pictures: L of each text.
          signals: entries of `asg_jax.signals.table.DRAWINGS`, or others like them, by name.
        """
        ...


Ablation = Mapping[str, Any] | Callable[[Any, int], Any]


@dataclass(frozen=True)
class Preset:
    """How a method is configured and made.

    Attributes:
      settings: a frozen dataclass with every number of the method; its field `name` is that of
        the preset.
      make: (model, language, settings, batch sizes by name, placement, micro) -> the method; micro
        is the number of examples that each device takes at a time in updates and drawings, None
        for all of them. Raises UserError where settings do not fit the model.
      ablations: settings that differ, by dotted path, of each ablation; or a function of the
        settings and a run's number of steps that gives the settings of the ablation.
      fit: makes settings that fit a model those of this preset, whatever they were before.
      stages: (settings, steps) -> settings whose stages share a run of so many steps, where a
        method goes through them once.
      targets: whether real pictures are scored as drawings, for which a backbone may need more.
    """

    settings: type
    make: Callable[..., Method]
    ablations: Mapping[str, Ablation] = field(default_factory=dict)
    fit: Callable[[Any], Any] = lambda settings: settings
    stages: Callable[[Any, int], Any] = lambda settings, steps: settings
    targets: bool = False


def phase_of(step: int, phases: Sequence[Phase]) -> Phase:
    """The phase of a step, counted from 1; every cycle runs through the phases in their order.

    (Ask, Solve, Generate, arXiv 2606.27376: three understanding steps, two generation steps.)
    """
    cycle = [phase for phase in phases for _ in range(phase.steps)]
    return cycle[(step - 1) % len(cycle)]
