"""SIGTERM and Ctrl-C: a run stops where it can go on from."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from asg_jax.train.evolve import processes

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """The run was asked to stop, and has.

    Attributes:
      status: exit status of a process that the signal ends.
    """

    def __init__(self, number: int):
        super().__init__(f"signal {number}")
        self.status = 128 + number


class Interruption:
    """Notes the request to stop, for the run to answer where it is safe.

    Attributes:
      requested: number of the signal that this process got; 0 before.
    """

    def __init__(self) -> None:
        self.requested = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notes the first signal; the second ends the process at once."""
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """A place where the run may stop; all processes must come here.

        Raises:
          Interrupted: one of them was asked to.
        """
        number = processes.largest(self.requested)
        if number:
            raise Interrupted(number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # An exception raised here could be lost: Python swallows those of a finalizer.
        signal.signal(number, signal.SIG_DFL)
        self.requested = number
        os.write(
            2, b"stopping where the run can go on from; the same signal again ends it at once\n"
        )
