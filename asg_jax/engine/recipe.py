"""What methods of a few roles share: making ready, the first state, and a step's report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from PIL.Image import Image as Picture

from asg_jax import ranges
from asg_jax.backbone import Params, PyTree, Request
from asg_jax.engine.engine import Engine, Learned
from asg_jax.engine.method import Phase, Report
from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.placement import Placement
from asg_jax.engine.roles import Role
from asg_jax.engine.state import TrainState
from asg_jax.prompts.language import Language
from asg_jax.pytree import pytree

SHOWN = 4  # drawings that a report shows
Step = tuple[TrainState, Callable[[], Report]]


@pytree
class Memory:
    """What a method remembers between steps.

    Attributes:
      anchor: factors of an older Generator, for objectives that need it; else None.
      own: what the method itself remembers.
    """

    anchor: Any
    own: Any = ()


class Recipe:
    """The part of `asg_jax.engine.method.Method` that is alike for all but ASG itself.

    Attributes:
      settings: every number of the method; `optimizer`, `lengths` and a field for every role.
      engine: the model at work.
    """

    names: Sequence[str] = ("generator",)  # of the roles

    def __init__(
        self,
        model: UnifiedModel,
        language: Language,
        settings: Any,
        sizes: Mapping[str, int],
        placement: Placement,
        micro: int | None = None,
    ):
        """Makes the method ready; see `asg_jax.engine.method.Preset.make`."""
        ranges.check(settings, "config.method")
        self.settings, self.sizes = settings, sizes
        self.engine = Engine(model, language, settings.lengths, placement, micro)
        self.engine.modules(self.learners)  # refuses what the model does not have

    @property
    def learners(self) -> dict[str, Role]:
        """How every role learns, by its name."""
        return {name: getattr(self.settings, name) for name in self.names}

    @property
    def roles(self) -> Sequence[str]:
        """See `asg_jax.engine.method.Method`."""
        return self.names

    @property
    def phases(self) -> Sequence[Phase]:
        """See `asg_jax.engine.method.Method`."""
        return (Phase("generation", 1, "generation"),)

    @property
    def anchored(self) -> bool:
        """Whether an older Generator is remembered."""
        return "generator" in self.names and self.settings.generator.objective.anchored

    def start_memory(self) -> PyTree:
        """What the method remembers before the first step."""
        return ()

    def init(self, seed: int) -> TrainState:
        """See `asg_jax.engine.method.Method`."""
        state = self.engine.start(seed, self.settings.optimizer, self.learners)
        anchor = None
        if self.anchored:
            anchor = jax.tree.map(jnp.copy, state.roles["generator"].adapter)
        return replace(state, memory=Memory(anchor, self.start_memory()))

    def prepare(self, pictures: Sequence[Picture]) -> Request:
        """See `asg_jax.engine.method.Method`."""
        return self.engine.prepare(pictures)

    def judge(self, state: TrainState, role: str) -> Params:
        """The model as the one that judges, with the parameters that the settings name."""
        return self.engine.judge(state, self.settings.judge, role)

    def told(
        self, phase: str, learned: Learned, rows: Callable[[Any], list[dict[str, Any]]]
    ) -> Step:
        """A step's new state, and what it tells once it is asked.

        Args:
          phase: name that the report gives the step.
          learned: what it gave.
          rows: a table for people, from what was judged.
        """
        bill = self.engine.bill()

        def report() -> Report:
            metrics, judged = self.engine.placement.get((learned.metrics, learned.judged))
            numbers = {name: float(value) for name, value in metrics.items()} | bill
            picture = getattr(judged, "picture", ())
            table = rows(judged)
            shown = [row.get("prompt", "") for row in table][:SHOWN]
            return Report(phase, numbers, table, dict(zip(shown, picture, strict=False)))

        return learned.state, report
