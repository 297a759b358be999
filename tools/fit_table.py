"""Writes docs/fit.md from docs/fit.json, which holds what `asg-jax fit --out=docs/fit.json` found.

python tools/fit_table.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asg_jax.train.ahead.account import ASSUMPTIONS
from asg_jax.train.ahead.tables import amount

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = """# What fits

Every program of a run, compiled ahead of time for devices that were not there. Nothing here was
measured on an accelerator. Sizes are those of one device.

| run | devices | parameters | role state | in use at most | steps, at least | run | |
|---|---|---|---|---|---|---|---|"""
COLUMNS = (
    "program",
    "arguments",
    "temporaries",
    "code",
    "in use",
    "collectives",
    "TFLOP",
    "at least",
    "compiled in",
)


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The whole page."""
    lines = [HEAD, *map(_summary, results), "", "Assumed:", ""]
    lines += [f"- {text}" for text in ASSUMPTIONS]
    for found in results:
        lines += ["", *_programs(found)]
    return "\n".join(lines) + "\n"


def _summary(found: Mapping[str, Any]) -> str:
    steps = ", ".join(f"{name} {s:.3g} s" for name, s in found["step_seconds"].items())
    run = f"{found['device_hours']:,.0f} device hours at {found['utilisation']:.0%} of the peak"
    if found["price"]:
        run += f", ${found['cost']:,.0f} at ${found['price']:.2f}"
    share = found["peak"] / found["chip"]["memory"]
    cells = [
        f"{found['config']} ({found['method']})",
        _devices(found),
        amount(found["base"]),
        amount(found["state"]),
        f"{amount(found['peak'])} ({share:.0%})",
        steps if found["fits"] else "",
        run if found["fits"] else "",
        found["advice"],
    ]
    return f"| {' | '.join(cells)} |"


def _devices(found: Mapping[str, Any]) -> str:
    axes = " x ".join(f"{name} {size}" for name, size in found["mesh"].items() if size > 1)
    return f"{found['topology']}{f', {axes}' if axes else ''}"


def _programs(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {found['config']} on {found['topology']}"
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{' --- |' * len(COLUMNS)}"
    for entry in found["entries"]:
        report = entry["report"]
        moved = (report["collectives"] or {}).items()
        cells = [
            f"{entry['phase']}: {report['name'].partition(': ')[2]}",
            amount(report["arguments"]),
            amount(report["temporaries"]),
            amount(report["code"]),
            amount(entry["live"]),
            "; ".join(f"{one['count']} {kind}, {amount(one['bytes'])}" for kind, one in moved),
            f"{report['flops'] / 1e12:.3g}",
            f"{report['seconds'] * 1e3:.3g} ms",
            f"{report['compile_seconds']:.0f} s",
        ]
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    (DOCS / "fit.md").write_text(markdown(json.loads((DOCS / "fit.json").read_text())))
