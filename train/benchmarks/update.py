"""Updates of the roles: useful operations, those that are done, and their share of the peak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax

from asg_jax.train.benchmarks.cost import matmul_flops
from asg_jax.train.benchmarks.steps import Timed, measure, take_steps
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.feed import first_picture
from asg_jax.train.evolve.parts import Opened, make_method, open_parts
from asg_jax.train.evolve.rehearsal import Visit

USAGE = "usage: asg-jax bench update [--config=NAME] [--config.FIELD=VALUE ...] [--out=FILE.json]"


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    measure(argv, USAGE, run, lines)


def run(config: RunConfig, repeat: int, best: float | None) -> dict[str, Any]:
    """What every update computes and takes.

    Args:
      config: the run's settings.
      repeat: steps of each phase.
      best: operations a second of one device, if known.
    """
    opened = open_parts(config)
    method = make_method(config, opened.model, opened.placement)
    timed = [
        one for _, programs, _ in take_steps(opened, config, method, repeat) for one in programs
    ]
    useful, devices = useful_flops(opened, config), opened.placement.mesh.size
    return {
        "benchmark": "update",
        "config": config.name,
        "model": config.model,
        "devices": devices,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "peak": best,
        "updates": [
            _numbers(one, useful[one.phase] / devices, best) for one in timed if one.name == "learn"
        ],
    }


def useful_flops(opened: Opened, config: RunConfig) -> dict[str, int]:
    """Operations that the updates need, by phase: of the matmuls of all devices together.

    Forward passes, and backward ones through frozen maps to their inputs and to the factors alone;
    no gradient of a frozen kernel, and nothing that is computed twice. Padding counts.
    """
    found: dict[str, int] = {}
    method = make_method(replace(config, remat="none"), opened.model, opened.placement)

    def meet(visit: Visit) -> None:
        if visit.name == "learn":
            found[visit.phase] = matmul_flops(visit.jaxpr())

    picture = first_picture(opened.source, config.data.side)
    opened.placement.rehearse(method, config, picture, meet)
    return found


def _numbers(one: Timed, useful: float, best: float | None) -> dict[str, Any]:
    rate = useful / one.seconds
    return {
        "phase": one.phase,
        "seconds": one.seconds,
        "useful_flops": useful,
        "done_flops": one.flops,
        "useful_flops_per_second": rate,
        "share_of_peak": rate / best if best else None,
        "done_share_of_peak": one.flops / one.seconds / best if best else None,
    }


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The lines that the benchmark prints."""
    yield (
        f"{report['config']}, {report['model']}, on {report['devices']} x {report['device']}, jax"
        f" {report['jax']}; everything of one device"
    )
    for update in report["updates"]:
        yield (
            f"  {update['phase']}: {update['seconds']:.4g} s,"
            f" {update['useful_flops'] / 1e9:.4g} GFLOP useful,"
            f" {update['done_flops'] / 1e9:.4g} GFLOP done,"
            f" {update['useful_flops_per_second'] / 1e12:.4g} TFLOP/s useful"
        )
        if update["share_of_peak"] is not None:
            yield (
                f"    {update['share_of_peak']:.1%} of the peak useful,"
                f" {update['done_share_of_peak']:.1%} done"
            )
