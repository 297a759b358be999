"""A whole cycle, program by program: useful operations among those that are done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

import jax

from asg_jax.train.ahead.tables import aligned
from asg_jax.train.benchmarks.steps import Timed, device_memory, measure, take_steps
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.parts import make_method, open_parts

USAGE = "usage: asg-jax bench cycle [--config=NAME] [--config.FIELD=VALUE ...] [--out=FILE.json]"
WASTES = ("padding", "again", "unused")
# Programs whose results only count for prompts whose questions were accepted.
JUDGING, REJECTED = ("ask_about", "compare"), "check/rejected_specs"
# The official code, for each picture, by reading it: runs of the vision encoder on that picture in
# an understanding step of the release's BLIP3o loop (K = 3, N = 7), and guidance branches of a
# drawing by BAGEL of which one computes what another one does.
RELEASE = (
    "the release's BLIP3o loop encodes a picture about 40 times in an understanding step; here"
    " {see:g}",
    "BAGEL's official sampler computes one of three guidance branches twice; here none",
)


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    measure(argv, USAGE, run, lines)


def run(config: RunConfig, repeat: int, best: float | None) -> dict[str, Any]:
    """What every program of a cycle computes, how much of it is useful, and how long it takes.

    Args:
      config: the run's settings.
      repeat: steps of each phase.
      best: operations a second of one device, if known.
    """
    opened = open_parts(config)
    method = make_method(config, opened.model, opened.placement)
    programs = [
        program
        for phase, timed, metrics in take_steps(opened, config, method, repeat)
        for program in _entries(phase.steps, timed, metrics)
    ]
    total = lambda name: sum(program[name] * program["steps"] for program in programs)
    done, seconds = total("done_flops"), total("seconds")
    useful = done - sum(total(waste) for waste in WASTES)
    return {
        "benchmark": "cycle",
        "config": config.name,
        "model": config.model,
        "devices": opened.placement.mesh.size,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "programs": programs,
        "seconds": seconds,
        "done_flops": done,
        "useful_flops": useful,
        "useful_share": useful / done,
        "wastes": {waste: total(waste) / done for waste in WASTES},
        "share_of_peak": useful / seconds / best if best else None,
        "peak_memory": device_memory(),
    }


def _entries(
    steps: int, timed: Sequence[Timed], metrics: Sequence[Mapping[str, float]]
) -> Iterator[dict[str, Any]]:
    """The ledger of the programs of a phase; operations are shared out by rows."""
    rejected = mean(report.get(REJECTED, 0.0) for report in metrics)
    for one in timed:
        rows, of_row = one.rows, one.flops / max(one.rows.room, 1)
        read = rows.room > 0 and one.name != "draw"  # there most rows are of the drawing
        done = of_row * rows.done if read else one.flops
        padding = of_row * (rows.done - rows.real) if read else 0.0
        again = of_row * rows.again if read else 0.0
        unused = rejected * (done - padding - again) if one.name in JUDGING else 0.0
        yield {
            "phase": one.phase,
            "name": one.name,
            "steps": steps,
            "seconds": one.seconds,
            "done_flops": done,
            "padding": padding,
            "again": again,
            "unused": unused,
        }


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The lines that the benchmark prints."""
    yield (
        f"{report['config']}, {report['model']}, on {report['devices']} x {report['device']}, jax"
        f" {report['jax']}; a cycle, everything of one device"
    )
    head = ("program", "times", "seconds", "GFLOP", *WASTES, "useful")
    yield from aligned([head, *map(_row, report["programs"])])
    wastes = ", ".join(f"{name} {share:.1%}" for name, share in report["wastes"].items())
    yield (
        f"useful: {report['useful_share']:.1%} of {report['done_flops'] / 1e9:.4g} GFLOP in"
        f" {report['seconds']:.4g} s; {wastes}"
    )
    if report["share_of_peak"] is not None:
        yield f"useful share of the peak: {report['share_of_peak']:.1%}"
    if report["peak_memory"] is not None:
        yield f"memory in use at most, compiling included: {report['peak_memory'] / 2**30:.1f} GiB"
    see = sum(one["name"] == "see" for one in report["programs"] if one["phase"] == "understanding")
    yield from (f"  {text.format(see=see)}" for text in RELEASE)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    done, wasted = one["done_flops"], [one[name] for name in WASTES]
    share = lambda part: f"{part / done:.1%}" if done else "-"
    return (
        f"{one['phase']}: {one['name']}",
        str(one["steps"]),
        f"{one['seconds']:.4g}",
        f"{done / 1e9:.4g}",
        *map(share, wasted),
        share(done - sum(wasted)),
    )
