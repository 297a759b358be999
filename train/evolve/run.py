"""A whole run: judged before, trained, judged after, told in a few files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from io import BytesIO
from typing import Any

import jax

from asg_jax.engine.state import TrainState
from asg_jax.errors import UserError
from asg_jax.train.evaluate.figure import SHOWN, Sheet, figure
from asg_jax.train.evaluate.prompts import prompt_set
from asg_jax.train.evaluate.scores import summary as scored
from asg_jax.train.evolve.boards import Board, Wandb
from asg_jax.train.evolve.checks import drawn_shares, trends
from asg_jax.train.evolve.config import FILE, RunConfig, check_folder
from asg_jax.train.evolve.files import Folder, write_bytes, write_json
from asg_jax.train.evolve.history import History
from asg_jax.train.evolve.interruption import Interrupted, Interruption
from asg_jax.train.evolve.judging import Judgement, recall, shortened
from asg_jax.train.evolve.lock import locked
from asg_jax.train.evolve.logs import STATUS, Logs, read_metrics, say
from asg_jax.train.evolve.loop import train
from asg_jax.train.evolve.parts import Parts, assemble
from asg_jax.train.evolve.placement import whole
from asg_jax.train.evolve.processes import agree, from_first, leads, wait
from asg_jax.train.evolve.programs import keep_programs
from asg_jax.train.evolve.summary import gains
from asg_jax.train.evolve.typed import flat, plain
from asg_jax.train.evolve.warmup import warm_up
from asg_jax.train.versions import versions

SUMMARY, PICTURE = "summary.json", "before_after.png"


@contextmanager
def claimed(folder: Folder, config: RunConfig) -> Iterator[None]:
    """Makes a folder the run's own, for as long as its processes work in it.

    Raises:
      UserError: it belongs to another one, another process works in it, or a process of the run
        does not see it.
    """
    with ExitStack() as stack:

        def claim() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
            check_folder(folder, config)
            write_json(folder / FILE, plain(config))
            for unfinished in folder.glob(".*.tmp"):  # of a process that was killed
                unfinished.unlink()

        from_first(claim)
        if agree(not (folder / FILE).exists()):
            raise UserError(
                f"not all processes of the run see {folder}; name a --workdir on a disk that they"
                " share or in a bucket (gs://...)."
            )
        yield


def is_finished(folder: Folder, config: RunConfig) -> bool:
    """Whether a folder holds the end of this run; corrects what its status says of that.

    Raises:
      UserError: it belongs to another one, or another process works in it.
    """
    check_folder(folder, config)
    if not (folder / SUMMARY).exists():
        with locked(folder) if (folder / FILE).exists() else nullcontext():
            return False  # known before anything is loaded
    told = (folder / STATUS).read_bytes() if (folder / STATUS).exists() else b""
    if b'"finished"' not in told:
        Logs(folder, config.steps).status("finished", step=config.steps, eta_seconds=0.0)
    return True


def finish(
    config: RunConfig,
    folder: Folder,
    begin: Callable[[], None] = lambda: None,
    warmup: bool | None = None,
) -> int:
    """Runs to the end, or until somebody asks to stop.

    Args:
      config: the run's.
      folder: the run's.
      begin: called once the folder is the run's own.
      warmup: whether all programs are compiled before the first step; None is yes on accelerators.

    Returns:
      The exit status: 0 at the end, that of a process which the signal ends if it is stopped.

    Raises:
      UserError: the run cannot start; a folder that was new is as it was.
    """
    if from_first(lambda: is_finished(folder, config)):
        return 0
    keep_programs()
    interruption = Interruption()
    with interruption.listening():
        parts = assemble(config)
        with claimed(folder, config):
            begin()
            warm = jax.default_backend() != "cpu" if warmup is None else warmup
            return _finish(parts, config, folder, interruption, warm)


def boards(config: RunConfig, folder: Folder) -> list[Board]:
    """What tells of the run beside TensorBoard, in the first process.

    Raises:
      UserError: it cannot be had.
    """
    if config.watch.wandb == "off" or not leads():
        return []
    return [Wandb(folder, config.name, flat(plain(config)), config.watch.wandb)]


def _finish(
    parts: Parts, config: RunConfig, folder: Folder, interruption: Interruption, warm: bool
) -> int:
    """Runs in a folder that is claimed; tells how it ended."""
    logs = Logs(folder, config.steps, boards(config, folder))
    try:
        logs.status("starting")
        if warm:
            warm_up(parts.method, parts, config, interruption)
        run(parts, config, folder, logs, interruption)
    except Interrupted as stop:
        return _stopped(logs, folder, stop.status)
    except BaseException as error:
        if interruption.requested and isinstance(error, jax.errors.JaxRuntimeError):
            # The signal has ended a process of the compiler, too, and that is what XLA says.
            return _stopped(logs, folder, 128 + interruption.requested)
        logs.status("failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        logs.close()
    return 0


def _stopped(logs: Logs, folder: Folder, status: int) -> int:
    logs.status("stopped")
    say(f"stopped; the same command with --workdir={folder} goes on from here")
    return status


def run(
    parts: Parts, config: RunConfig, folder: Folder, logs: Logs, interruption: Interruption
) -> None:
    """Runs, or goes on with, what a config describes; a summary in the folder ends it.

    Raises:
      Interrupted: the run was asked to stop.
    """
    interruption.check()
    before = _judge(parts, config, folder, "before", None, logs)
    interruption.check()
    watch = lambda step, state: _watch(parts, config, logs, step, state)
    state, history = train(parts, config, folder, logs, interruption, watch)
    interruption.check()
    learned = whole(state)
    after = _judge(parts, config, folder, "after", learned, logs)
    interruption.check()
    if leads():
        parts.export(learned, folder)
        found = summarize(config, history, learned, folder, (before, after))
        write_json(folder / SUMMARY, found)
        logs.status("finished", step=config.steps, eta_seconds=0.0)
    wait()


def _judge(
    parts: Parts,
    config: RunConfig,
    folder: Folder,
    name: str,
    state: TrainState | None,
    logs: Logs,
) -> Judgement | None:
    """A judgement with everything, from the folder where it is known already."""
    judge = parts.judge
    if judge is None:
        return None
    logs.status("evaluating")
    return recall(folder, name, lambda: judge(state, config.eval))


def _watch(parts: Parts, config: RunConfig, logs: Logs, step: int, state: TrainState) -> None:
    """Every so often, short scores beside the metrics of the step."""
    watch = config.watch
    if watch.every == 0 or step % watch.every:
        return
    learned = whole(state)
    if parts.judge is not None:
        settings = shortened(config.eval, watch.questions, watch.prompts)
        scores = parts.judge(learned, settings, headroom=False).scores
        logs.scalars(step, {f"eval/{name}": points for name, points in scores.headline.items()})


def summarize(
    config: RunConfig,
    history: History,
    state: TrainState,
    folder: Folder,
    judgements: tuple[Judgement | None, Judgement | None],
) -> dict[str, Any]:
    """Everything that a run found; draws the picture too."""
    before, after = judgements
    seconds, times = dict(history.seconds), dict(history.times)
    if before is not None and after is not None:
        seconds["evaluation"], times["evaluation"] = before.seconds + after.seconds, 2
    found: dict[str, Any] = {
        "model": config.model,
        "seed": config.seed,
        "steps": config.steps,
        "seconds": sum(seconds.values()),
        "seconds_per_phase": {name: seconds[name] / times[name] for name in seconds},
        "seconds_of_all": seconds,
        "recompilations": history.recompilations,
        "nonfinite_steps": history.nonfinite,
        "skipped_updates": int(state.skipped),
        "versions": versions(),
        "checks": trends(read_metrics(folder)),
    }
    if before is not None and after is not None:
        named = {"before": before, "after": after}
        prompts = prompt_set(config.eval.seed, config.eval.prompts)[: len(before.pictures)]
        drawn = {name: judged.pictures for name, judged in named.items()}
        found |= gains(before.scores, after.scores)
        found["checks"]["drawn"] = drawn_shares(prompts, drawn)
        sheets = {name: Sheet(prompts[:SHOWN], rows[:SHOWN]) for name, rows in drawn.items()}
        tables = {name: scored(judged.scores) for name, judged in named.items()}
        file = BytesIO()
        figure(tables, sheets).savefig(file)
        write_bytes(folder / PICTURE, file.getvalue())
    return found
