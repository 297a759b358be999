"""Reports of compiled programs for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from asg_jax.train.ahead.programs import ProgramReport

_COLUMNS = (
    "program",
    "arguments",
    "temporaries",
    "code",
    "of memory",
    "TFLOP",
    "GB moved",
    "at least",
    "compiled in",
    "verdict",
)


def table(reports: Sequence[ProgramReport]) -> str:
    """One line for each program, then the collectives of each; sizes are those of one device."""
    lines = aligned([_COLUMNS, *map(_row, reports)])
    return "\n".join([*lines, *(line for report in reports for line in remarks(report))])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose first row names its columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = lambda row: "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
    return [pad(row).rstrip() for row in rows]


def remarks(report: ProgramReport) -> list[str]:
    """The collectives of a program, and what is not known or wrong about it."""
    lines = [
        f"{report.name}: {found.count} {kind}, {amount(found.bytes)}"
        for kind, found in sorted((report.collectives or {}).items())
    ]
    if report.open_loops:
        lines.append(
            f"{report.name}: a loop ends with the data; it is counted as often as it may run"
        )
    if report.error:
        lines.append(f"{report.name}: {report.error.splitlines()[0]}")
    return lines


def write_json(path: Path, reports: Sequence[ProgramReport]) -> None:
    """All numbers of the reports, with the verdict and the bound of the memory needed."""
    found = [asdict(r) | {"needed": r.needed, "verdict": r.verdict} for r in reports]
    path.write_text(json.dumps(found, indent=2) + "\n")


def _row(report: ProgramReport) -> tuple[str, ...]:
    return (
        report.name,
        amount(report.arguments),
        amount(report.temporaries),
        amount(report.code),
        f"{report.needed / report.memory:.0%}",
        f"{report.flops / 1e12:.3g}",
        f"{report.traffic / 1e9:.3g}",
        f"{report.seconds * 1e3:.3g} ms",
        f"{report.compile_seconds:.0f} s",
        report.verdict,
    )


def amount(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.2f} MiB"
