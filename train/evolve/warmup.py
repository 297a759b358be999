"""All programs of a run, compiled side by side before its first step."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from threading import Semaphore
from time import perf_counter

import numpy as np

from asg_jax.engine.method import Method
from asg_jax.train.evolve.background import in_background
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.feed import first_picture
from asg_jax.train.evolve.interruption import Interrupted, Interruption
from asg_jax.train.evolve.logs import say
from asg_jax.train.evolve.parts import Opened, Parts
from asg_jax.train.evolve.processes import gather
from asg_jax.train.evolve.rehearsal import Visit

POLL = 0.2  # seconds until a request to stop is answered
THREADS = max(2, min(8, (os.cpu_count() or 1) // 2))  # the compiler has threads of its own


def warm_up(
    method: Method, opened: Opened | Parts, config: RunConfig, interruption: Interruption
) -> None:
    """Compiles what the steps will run; they find it in memory. All processes must call it.

    Args:
      method: made for the placement of `opened`.
      opened: placement and pictures.
      config: the run's settings.
      interruption: tells whether the run was asked to stop.

    Raises:
      Interrupted: the run was asked to stop; what is being compiled ends with the process.
    """
    begin, turn = perf_counter(), Semaphore(THREADS)
    programs: dict[int, Future[None]] = {}

    def compile_it(visit: Visit) -> None:
        with turn:
            if interruption.requested:
                return
            start = perf_counter()
            visit.lowered.compile()
            label = f"{visit.phase}: {visit.name} ({perf_counter() - start:.0f} s)"
        say(f"compiled {label}")

    def meet(visit: Visit) -> None:
        if interruption.requested:
            raise _Asked
        if id(visit.lowered) not in programs:
            kept.append(visit)
            programs[id(visit.lowered)] = in_background(partial(compile_it, visit))

    kept: list[Visit] = []  # so that no number is that of another program
    picture = first_picture(opened.source, config.data.side)
    try:
        opened.placement.rehearse(method, config, picture, meet)
    except _Asked:
        pass  # the others learn of it below
    _await(list(programs.values()), interruption)
    say(f"{len(programs)} programs are compiled; that took {perf_counter() - begin:.0f} s")


class _Asked(Exception):
    """This process was asked to stop."""


def _await(programs: list[Future[None]], interruption: Interruption) -> None:
    """Waits until every process has compiled its programs, or one was asked to stop."""
    while True:
        left = [program for program in programs if not program.done()]
        asked, waiting = gather(np.array([interruption.requested, len(left)], np.int32)).max(0)
        if asked:
            raise Interrupted(int(asked))
        for program in programs:
            if program.done():
                program.result()
        if not waiting:
            return
        wait(left, POLL, FIRST_COMPLETED)
