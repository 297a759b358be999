"""Reports of compiled programs for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from asg_jax.train.ahead.programs import Report

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


def table(reports: Sequence[Report]) -> str:
    """One line for each program, then the collectives of each; sizes are those of one device."""
    rows = [_COLUMNS, *map(_row, reports)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    for report in reports:
        for kind, found in sorted((report.collectives or {}).items()):
            lines.append(f"{report.name}: {found.count} {kind}, {_gib(found.bytes)}")
        if report.open_loops:
            lines.append(f"{report.name}: a loop ends with the data; one round of it is counted")
        if report.error:
            lines.append(f"{report.name}: {report.error.splitlines()[0]}")
    return "\n".join(line.rstrip() for line in lines)


def write_json(path: Path, reports: Sequence[Report]) -> None:
    """All numbers of the reports, with the verdict and the bound of the memory needed."""
    found = [asdict(r) | {"needed": r.needed, "verdict": r.verdict} for r in reports]
    path.write_text(json.dumps(found, indent=2) + "\n")


def _row(report: Report) -> tuple[str, ...]:
    return (
        report.name,
        _gib(report.arguments),
        _gib(report.temporaries),
        _gib(report.code),
        f"{report.needed / report.memory:.0%}",
        f"{report.flops / 1e12:.3g}",
        f"{report.traffic / 1e9:.3g}",
        f"{report.seconds * 1e3:.3g} ms",
        f"{report.compile_seconds:.0f} s",
        report.verdict,
    )


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
