"""The training loop: one method, one stream of pictures, and everything needed to go on later."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import jax

from asg_jax.methods.base import Method, Report, TrainState
from asg_jax.objectives.schedule import phase
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.evolve.checkpoints import Checkpoints
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.feed import Feed
from asg_jax.train.evolve.history import History
from asg_jax.train.evolve.interruption import Interrupted, Interruption
from asg_jax.train.evolve.logs import Logs
from asg_jax.train.evolve.parts import Parts
from asg_jax.train.evolve.placement import replicate
from asg_jax.train.evolve.processes import agree
from asg_jax.train.evolve.replay import Replay

Watch = Callable[[int, TrainState], None]


@dataclass
class Session:
    """A run between its start and its next stop: what the loop changes.

    Attributes:
      state: on the devices.
      history: on the host.
      feed: pictures, and where they go on.
    """

    state: TrainState
    history: History
    feed: Feed

    def restore(self, checkpoints: Checkpoints) -> None:
        """Goes on from the last checkpoint, if there is one."""
        restored = checkpoints.restore(self.state)
        if restored is not None:
            self.state, host = restored
            self.history = History(**host["history"])
            self.feed.restore(host["feed"])

    def save(self, checkpoints: Checkpoints) -> None:
        """Starts to save the last step."""
        with self.history.timed("checkpoint"):
            host = {"history": self.history.state(), "feed": self.feed.state()}
            checkpoints.save(self.history.step, self.state, host)
            self.feed.replay.forget()


def train(
    parts: Parts,
    config: RunConfig,
    folder: Path,
    logs: Logs,
    interruption: Interruption,
    watch: Watch = lambda step, state: None,
) -> tuple[TrainState, History]:
    """Takes the steps that are left, and saves on the way and at the end.

    Args:
      parts: of the run.
      config: of the run.
      folder: of the run.
      logs: to tell what happens.
      interruption: to be asked to stop by.
      watch: called after every step.

    Raises:
      Interrupted: the run was asked to stop; the last step is saved.
    """
    replay = Replay(folder, config.replay.size, config.checkpoint.keep)
    state = replicate(parts.method.init(config.seed), parts.mesh)
    session = Session(state, History(), Feed(parts.source, replay, config))
    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(folder, config.checkpoint))
        compilations = stack.enter_context(Compilations())
        stack.enter_context(interruption.deferred())
        stack.enter_context(jax.set_mesh(parts.mesh))  # tells the layers how to keep batches cut
        session.restore(checkpoints)
        logs.start(session.history.step)
        cycle = config.method.understanding_steps + config.method.generation_steps
        warm = session.history.step + cycle  # until then every kind of step is new
        for step in range(session.history.step + 1, config.steps + 1):
            start = perf_counter()
            report = _step(session, parts.method, config, compilations, step > warm)
            logs.step(step, report, perf_counter() - start)
            watch(step, session.state)
            stopping = agree(interruption.requested)
            if stopping or step % config.checkpoint.every == 0 or step == config.steps:
                session.save(checkpoints)
            if stopping and step < config.steps:
                raise Interrupted
    return session.state, session.history


def _step(
    session: Session, method: Method, config: RunConfig, compilations: Compilations, warm: bool
) -> Report:
    """One step of the method, with its pictures before and what it kept after it."""
    history, step = session.history, session.history.step + 1
    kind = phase(step, config.method.understanding_steps, config.method.generation_steps)
    with history.timed("data"):
        pictures, ids = session.feed.next(step, kind)
    compiled = compilations.count
    with history.timed(kind if warm else "first cycle"):
        session.state, report = method.step(session.state, pictures, ids)
    history.recompilations += (compilations.count - compiled) * warm
    history.add(report)
    session.feed.replay.add(report.kept)
    return report
