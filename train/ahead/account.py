"""What `asg-jax fit` found, told to people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from asg_jax.train.ahead.fit import Entry, Fit
from asg_jax.train.ahead.tables import aligned, amount, remarks

COLUMNS = (
    "program",
    "arguments",
    "temporaries",
    "code",
    "in use",
    "of memory",
    "TFLOP",
    "at least",
    "compiled in",
    "verdict",
)
ASSUMPTIONS = (
    "A program takes at least the time of its operations, of its memory traffic or of its"
    " collectives at the peak of the data sheet, whichever is longest; operations inside attention"
    " kernels are not counted.",
    "Texts are as long as they may be.",
    "Nothing else takes time: reading pictures, parsing texts, checkpoints, judgements, compiling.",
    "In use is what the step holds at most while the program runs: parameters, role state, code of"
    " all programs, batches and results so far, and the program's temporaries and results.",
)


def lines(found: Fit, told: dict[str, Any]) -> Iterator[str]:
    """The lines that `asg-jax fit` prints.

    Args:
      found: what the run takes on the topology.
      told: the same as `fit.plain` gives it.
    """
    axes = ", ".join(f"{name} {size}" for name, size in found.mesh.items())
    memory, share = amount(found.chip.memory), found.peak / found.chip.memory
    yield (
        f"{found.config} ({found.method}) on {found.topology}: {found.devices} devices of {memory};"
        f" {axes}"
    )
    yield (
        f"on every device: parameters {amount(found.base)}, role state {amount(found.state)}, code"
        f" {amount(found.code)}; in use at most {amount(found.peak)}, {share:.0%}"
    )
    if found.entries:
        yield ""
        yield from aligned([COLUMNS, *(row(found, entry) for entry in found.entries)])
        yield ""
        known = {entry.report.name: entry.report for entry in found.entries}
        yield from (line for report in known.values() for line in remarks(report))
        yield ""
        yield from _run(found, told)
    yield ""
    yield f"{'fits' if found.fits else 'does not fit'}: {found.advice}"


def row(found: Fit, entry: Entry) -> tuple[str, ...]:
    """The cells of a program, see `COLUMNS`."""
    report, live = entry.report, found.live(entry)
    program = report.name.partition(": ")[2]
    verdict = report.verdict
    if verdict == "fits" and live > found.chip.memory:
        verdict = "does not fit"
    return (
        f"{entry.phase}: {program}",
        amount(report.arguments),
        amount(report.temporaries),
        amount(report.code),
        amount(live),
        f"{live / found.chip.memory:.0%}",
        f"{report.flops / 1e12:.3g}",
        f"{report.seconds * 1e3:.3g} ms",
        f"{report.compile_seconds:.0f} s",
        verdict,
    )


def _run(found: Fit, told: dict[str, Any]) -> Iterator[str]:
    for phase, seconds in told["step_seconds"].items():
        yield f"a step of {phase}: at least {seconds:.3g} s"
    cost = ""
    if told["cost"] is not None:
        cost = f", {told['cost']:,.0f} US dollars at {told['price']:.2f} an hour of a device"
    yield (
        f"{found.steps:,} steps at {told['utilisation']:.0%} of the peak: {told['run_hours']:.3g}"
        f" hours, {told['device_hours']:,.0f} device hours{cost}"
    )
    yield from (f"  assumed: {text}" for text in ASSUMPTIONS)
