"""The steps of a run, program by program, and how long each takes here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax
from absl import flags

from asg_jax.engine.method import Examples, Method, Phase
from asg_jax.models.places import new_file, write_file
from asg_jax.train.ahead.chips import CHIPS
from asg_jax.train.ahead.hlo import Program
from asg_jax.train.benchmarks.rows import Rows, count_rows
from asg_jax.train.evolve.config import RunConfig, read
from asg_jax.train.evolve.feed import first_picture, square
from asg_jax.train.evolve.interruption import Interruption
from asg_jax.train.evolve.parts import Opened
from asg_jax.train.evolve.rehearsal import Played
from asg_jax.train.evolve.warmup import warm_up
from asg_jax.train.flags import define_config, number, parse

# Names that JAX gives devices, and ours.
KINDS: Mapping[str, str] = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v6 lite": "v6e",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
}


@dataclass(frozen=True)
class Timed:
    """A program in the steps of a phase.

    Attributes:
      phase: which kind of steps.
      name: how the program is called.
      seconds: median of its runs.
      flops: operations of matmuls and convolutions that one device does, as compiled. What fused
        attention kernels do is not among them; a loop that draws tokens counts as often as it may
        run.
      rows: rows that the language model computes in all runs.
    """

    phase: str
    name: str
    seconds: float
    flops: float
    rows: Rows


def take_steps(
    opened: Opened, config: RunConfig, method: Method, repeat: int
) -> Iterator[tuple[Phase, list[Timed], list[Mapping[str, float]]]]:
    """Takes steps of every phase on the run's own pictures and times their programs.

    As in a run, accelerators have all programs compiled side by side first.

    Args:
      opened: model, devices and pictures.
      config: the run's settings.
      method: made for them.
      repeat: steps of each phase, after one that compiles.

    Yields:
      Each phase that the method has, its programs in their order, and what its steps report.
    """
    placement, first = opened.placement, 1
    if jax.default_backend() != "cpu":
        warm_up(method, opened, config, Interruption())
    state = placement.place_state(method.init(config.seed))
    for phase in method.phases:
        steps: list[list[Played]] = []
        rows, metrics = list[list[Rows]](), list[Mapping[str, float]]()
        for turn in range(1 + repeat) if phase.steps else ():
            examples = _examples(opened, config, method, phase, first, turn)
            steps.append([])
            with placement.watched(phase.name, steps[-1].append):
                state, report = method.step(state, examples)
            rows.append(count_rows(steps[-1]))
            metrics.append(report().metrics)
        if phase.steps:
            programs = [
                _timed(*runs)
                for runs in zip(
                    zip(*steps[1:], strict=True), zip(*rows[1:], strict=True), strict=True
                )
            ]
            yield phase, programs, metrics[1:]
        first += phase.steps


def _timed(runs: Sequence[Played], rows: Sequence[Rows]) -> Timed:
    """The runs of one program."""
    text = runs[0].lower().compile().as_text()
    return Timed(
        phase=runs[0].phase,
        name=runs[0].name,
        seconds=median(run.seconds for run in runs),
        flops=Program(text or "").total.flops,
        rows=Rows(*(sum(numbers) for numbers in zip(*rows, strict=True))),
    )


def _examples(
    opened: Opened, config: RunConfig, method: Method, phase: Phase, step: int, turn: int
) -> Examples:
    """Pictures of the source, others at every turn."""
    source, side = opened.source, config.data.side
    rows = opened.placement.share.rows(getattr(config.batch, phase.batch))
    ids = tuple((turn * len(rows) + row) % len(source) for row in rows)
    found = (source[n] for n in ids)
    spare = first_picture(source, side)
    pictures = [square(one.picture, side) if one else spare for one in found]
    return Examples(config.seed, step, ids, rows, method.prepare(pictures))


def device_memory() -> int | None:
    """The most bytes in use on a device so far, compiling included; None where nobody counts."""
    stats = jax.devices()[0].memory_stats()
    return stats["peak_bytes_in_use"] if stats else None


def peak() -> float | None:
    """Operations a second of one device at best; None where its data sheet is not known."""
    kind = KINDS.get(jax.devices()[0].device_kind)
    return CHIPS[kind].flops if kind else None


def measure(
    argv: Sequence[str],
    usage: str,
    run: Callable[[RunConfig, int, float | None], dict[str, Any]],
    lines: Callable[[dict[str, Any]], Iterable[str]],
) -> None:
    """A benchmark of a run's steps as a command.

    Args:
      argv: the words after its name.
      usage: what `--help` prints first.
      run: (config, steps of each phase, operations a second of one device) -> its report.
      lines: the report as it is printed.
    """
    f = flags.FlagValues()
    define_config(f, "bagel_tiny")
    number(f, "repeat", 2, "Steps of each phase that are timed; medians are printed.", least=1)
    number(f, "peak", None, "TFLOP/s of one device; known for some.", float, above=0)
    flags.DEFINE_string("out", None, "JSON file for all numbers.", f)
    if parse(f, argv, usage) is None:
        return
    out, config = new_file(f.out) if f.out else None, read(f.config.to_dict())
    report = run(config, f.repeat, f.peak * 1e12 if f.peak else peak())
    print("\n".join(lines(report)))
    if out is not None:
        write_file(out, (json.dumps(report, indent=1) + "\n").encode())
