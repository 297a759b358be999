"""What a run counts on the host, over all its sessions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from asg_jax.engine.method import Report


@dataclass
class History:
    """Counts that a checkpoint keeps.

    Attributes:
      step: the last step that was taken.
      seconds: how long each part of the run took ("understanding", "data", ...).
      times: how often each part ran.
      recompilations: programs compiled in steps after the first cycle of a session.
      nonfinite: steps that reported a number which is not finite.
    """

    step: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    recompilations: int = 0
    nonfinite: int = 0

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Adds the seconds that pass inside to a part of the run."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + perf_counter() - start
            self.times[part] = self.times.get(part, 0) + 1

    def add(self, report: Report) -> None:
        """Counts a step."""
        self.step += 1
        self.nonfinite += not all(map(math.isfinite, report.metrics.values()))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)

    @staticmethod
    def of(state: Mapping[str, Any]) -> History:
        """The history that a checkpoint kept."""
        return History(**state)
