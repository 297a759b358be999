"""The training loop: one method, one stream of pictures, and everything needed to go on later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import numpy as np

from asg_jax.engine.method import Examples, Report, phase_of
from asg_jax.engine.state import TrainState
from asg_jax.errors import UserError
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.evolve.checkpoints import Checkpoints
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.feed import Feed, form
from asg_jax.train.evolve.files import Folder
from asg_jax.train.evolve.history import History
from asg_jax.train.evolve.interruption import Interrupted, Interruption
from asg_jax.train.evolve.logs import Logs
from asg_jax.train.evolve.parts import Parts
from asg_jax.train.evolve.processes import gather
from asg_jax.train.evolve.replay import Replay

Watch = Callable[[int, TrainState], None]
FLAGS = {"pictures": "data.folder", "model": "model"}  # where a run's facts come from
POLL = 0.2  # seconds until a request to stop is answered while there is nothing to do


class Session:
    """A run between its start and its next stop: what the loop changes.

    While the devices take a step, the host reads what the step before reported and makes the
    examples of the next one ready.

    Attributes:
      state: as it lies on the devices.
      history: steps whose reports were read.
      feed: examples.
    """

    def __init__(self, parts: Parts, config: RunConfig, folder: Folder, logs: Logs):
        replay = Replay(folder, config.replay.size, config.checkpoint.keep)
        self.state = parts.placement.place_state(parts.method.init(config.seed))
        self.history = History()
        self.feed = Feed(parts.source, replay, config, parts.method, parts.placement.share)
        self._method, self._config, self._logs = parts.method, config, logs
        self._first, self._facts = parts.placement.share.first, dict(parts.facts)
        self._saved = 0
        self._late: Callable[[], Report] | None = None  # reads the report of the last step
        self._told = perf_counter()

    def restore(self, checkpoints: Checkpoints) -> None:
        """Goes on from the last checkpoint, if there is one, and has its next step made ready."""
        kept: dict[str, Any] = {}

        def accept(host: Mapping[str, Any]) -> None:
            self.feed.replay.restore(host["replay"])
            kept.update(history=History.of(host["history"]), facts=dict(host["facts"]))

        state = checkpoints.restore(self.state, accept)
        if state is not None:
            self.state, self.history = state, kept["history"]
            self._check(kept["facts"])
        self._saved = self.history.step
        if self.history.step < self._config.steps:
            self.feed.load(self.history.step + 1)
            self.feed.complete(self.history.step + 1)

    def save(self, checkpoints: Checkpoints) -> None:
        """Starts to save the last step, if it is not saved."""
        self.flush()
        if self._saved == self.history.step:
            return
        with self.history.timed("checkpoint"):
            host = {"history": self.history.state(), "replay": self.feed.replay.state()}
            checkpoints.save(self.history.step, self.state, host | {"facts": self._facts})
            self.feed.replay.forget()
            self._logs.flush()
        self._saved = self.history.step

    def examples(self, interruption: Interruption) -> Examples:
        """Waits for the next step's examples; all processes go on or stop together.

        Raises:
          Interrupted: one of them was asked to stop.
          UserError: the examples of one cannot be had, or differ in form.
        """
        with self.history.timed("data"):
            while not interruption.requested and not self.feed.ready(POLL):
                pass
        asked, fault = interruption.requested, self.feed.fault
        known = 0 if asked or fault else form(self.feed.take())
        facts = gather(np.array([asked, fault is not None, known], np.int32))
        asked, failed, _ = facts.max(0).tolist()
        if asked:
            raise Interrupted(asked)
        if fault is not None:
            raise fault
        if failed:
            raise UserError("another process of this run has no pictures; it says why.")
        if len(set(facts[:, -1].tolist())) > 1:
            raise UserError(
                "pictures of several sizes make different programs in different processes; bring"
                " them to one size with --config.data.side, such as 448."
            )
        return self.feed.take()

    def _check(self, before: Mapping[str, str]) -> None:
        """Makes sure that the run finds what it was made of."""
        for name, now in self._facts.items():
            if before.get(name) != now:
                raise UserError(
                    f"config.{FLAGS[name]} named '{before.get(name)}' when this run was saved and"
                    f" names '{now}' now; bring back what it was, or name another --workdir to"
                    " start anew."
                )

    def step(self, examples: Examples, step: int) -> None:
        """Begins a step; reads the report of the one before, and makes the next one ready."""
        further = step < self._config.steps
        if further:
            self.feed.load(step + 1)
        self.state, late = self._method.step(self.state, examples)
        self.flush()
        if further:
            self.feed.complete(step + 1)
        self._late = late

    def flush(self) -> None:
        """Reads the report of the last step, unless it is read already."""
        if self._late is None:
            return
        report, self._late = self._late(), None
        self.history.add(report)
        self.feed.replay.add(self.history.step, report.kept, self._first)
        now = perf_counter()
        self._logs.step(self.history.step, report, now - self._told)
        self._told = now


def train(
    parts: Parts,
    config: RunConfig,
    folder: Folder,
    logs: Logs,
    interruption: Interruption,
    watch: Watch = lambda step, state: None,
) -> tuple[TrainState, History]:
    """Takes the steps that are left, and saves on the way and at the end.

    Args:
      parts: what the run works with.
      config: the run's.
      folder: the run's.
      logs: where it is told what happens.
      interruption: asks the run to stop.
      watch: called after every step.

    Raises:
      Interrupted: the run was asked to stop; the last step is saved.
      UserError: the pictures are gone; the last step is saved.
    """
    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(folder, config.checkpoint))
        compilations = stack.enter_context(Compilations())
        session = Session(parts, config, folder, logs)
        session.restore(checkpoints)
        history, start = session.history, session.history.step
        logs.start(start)
        warm = start + sum(phase.steps for phase in parts.method.phases)  # every kind of step was
        for step in range(start + 1, config.steps + 1):
            try:
                examples = session.examples(interruption)
            except Exception:
                session.save(checkpoints)
                raise
            compiled = compilations.count
            due = step % config.checkpoint.every == 0 or step == config.steps
            kind = phase_of(step, parts.method.phases).name if step > warm else "first cycle"
            with history.timed(kind):
                session.step(examples, step)
                if due:
                    session.flush()
            history.recompilations += (compilations.count - compiled) * (step > warm)
            watch(step, session.state)
            if due:
                session.save(checkpoints)
    return session.state, history
