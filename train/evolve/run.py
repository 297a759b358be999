"""A whole run: judged before, trained, judged after, told in a few files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from asg_jax.methods.base import TrainState
from asg_jax.train.evaluate.figure import SHOWN, Sheet, figure
from asg_jax.train.evaluate.prompts import prompt_set
from asg_jax.train.evaluate.scores import summary as scored
from asg_jax.train.evolve.checks import drawn_shares, trends
from asg_jax.train.evolve.config import FILE, RunConfig, check_folder
from asg_jax.train.evolve.files import write_json
from asg_jax.train.evolve.history import History
from asg_jax.train.evolve.interruption import Interrupted, Interruption
from asg_jax.train.evolve.judging import Judgement, recall, shortened
from asg_jax.train.evolve.logs import Logs, read_metrics, say
from asg_jax.train.evolve.loop import train
from asg_jax.train.evolve.parts import Parts, assemble
from asg_jax.train.evolve.placement import whole
from asg_jax.train.evolve.processes import leads, wait
from asg_jax.train.evolve.summary import gains
from asg_jax.train.evolve.typed import plain

SUMMARY, PICTURE = "summary.json", "before_after.png"
PROGRAMS = Path("~/.cache/asg_jax/programs")  # compiled ones, for the next start


def claim(folder: Path, config: RunConfig) -> None:
    """Makes a folder the run's own.

    Raises:
      UserError: it belongs to another one.
    """
    check_folder(folder, config)
    wait("checked")  # before the first process writes what the others look for
    if leads():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, plain(config))
    wait("claimed")


def finish(config: RunConfig, folder: Path) -> bool:
    """Runs to the end, or until somebody asks to stop; whether it is the end.

    Args:
      config: of the run.
      folder: that was claimed for it.
    """
    if (folder / SUMMARY).exists():
        return True
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(PROGRAMS.expanduser()))
    interruption, logs = Interruption(), Logs(folder, config.steps)
    try:
        with interruption.listening():
            logs.status("starting")
            run(assemble(config), config, folder, logs, interruption)
    except Interrupted:
        logs.status("stopped")
        say(f"stopped; the same command with --workdir={folder} goes on from here")
        return False
    except BaseException as error:
        logs.status("failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        logs.close()
    return True


def run(
    parts: Parts, config: RunConfig, folder: Path, logs: Logs, interruption: Interruption
) -> None:
    """Runs, or goes on with, what a config describes; a summary in the folder ends it.

    Raises:
      Interrupted: the run was asked to stop.
    """
    before = _judge(parts, config, folder, "before", None, logs)
    watch = lambda step, state: _watch(parts, config, logs, step, state)
    state, history = train(parts, config, folder, logs, interruption, watch)
    learned = whole(state)
    after = _judge(parts, config, folder, "after", learned, logs)
    if leads():
        parts.export(learned, folder)
        found = summarize(config, history, learned, folder, (before, after))
        write_json(folder / SUMMARY, found)
        logs.status("finished", step=config.steps, eta_seconds=0.0)
    wait("summary")


def _judge(
    parts: Parts,
    config: RunConfig,
    folder: Path,
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
    folder: Path,
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
        figure(tables, sheets).savefig(folder / PICTURE)
    return found
