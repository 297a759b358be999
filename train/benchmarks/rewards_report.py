"""The printed form of the rewards benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

POWER = ("auc", "pairs", "rank", "flat", "calibration")
HACKS = {
    "blank": "right above blank",
    "noise": "right above noise",
    "written": "right above its text",
    "shuffled/auc": "AUC, shuffled",
    "shuffled/same": "same when shuffled",
    "length": "follows length",
    "yes_rate": "unrelated above 1/2",
    "all_yes": "lost to all yes",
}


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Tables of cost, power for every set, and tricks."""
    device, signals = report["device"], report["signals"]
    yield (
        f"{report['model']} on {device['platform']} ({device['kind']}), jax"
        f" {report['versions']['jax']}; points of 100 with 95 % intervals"
    )
    yield "\ncost, each signal alone"
    yield from table(
        ("", "pictures/s", "compile s", "MB", "GFLOP", "ms a pair", "roofline", "plain x"),
        [_cost(name, one["speed"]) for name, one in signals.items()],
    )
    told = report["many"]
    beside = f", {told['ratio']:.1f} times the plain form" if "ratio" in told else ""
    yield (
        f"\nlikelihood of {told['texts']} texts about each of {told['pictures']} pictures:"
        f" {told['pairs_per_second']:.4g} a second{beside}"
    )
    for name, known in report["sets"].items():
        count = sum(map(sum, known["exists"]))
        yield f"\n{name}: {len(known['texts'])} texts, {count} pictures"
        figures = [figure for figure in POWER if _has(signals, name, figure)]
        faults = sorted({f for one in signals.values() for f in one["power"][name]} - {*POWER})
        yield from table(
            ("", *figures, *(fault.replace("pairs/", "not ") for fault in faults)),
            [
                (n, *(_interval(one["power"][name].get(f)) for f in [*figures, *faults]))
                for n, one in signals.items()
            ],
        )
    yield "\nwhat may fool them"
    yield from table(
        ("", *HACKS.values()),
        [(n, *(_interval(one["hacks"].get(h)) for h in HACKS)) for n, one in signals.items()],
    )
    yield from _changes(report.get("changes", {}))
    if not report["passed"]:
        yield "\nFAILED: the plain form gives other scores"


def _changes(changes: Mapping[str, Any]) -> Iterator[str]:
    for signal, sets in changes.items():
        for name, figures in sets.items():
            told = (f"{f} {_signed(x)}" for f, x in figures.items() if f in POWER)
            yield f"\nchange of {signal} in {name}: {', '.join(told)}"


def _has(signals: Mapping[str, Any], name: str, figure: str) -> bool:
    return any(figure in one["power"][name] for one in signals.values())


def _cost(name: str, speed: Mapping[str, float | None]) -> tuple[str, ...]:
    number = lambda key, scale=1.0: _number(speed.get(key), scale)
    return (
        name,
        number("samples_per_second"),
        number("compile_seconds"),
        number("memory_bytes", 1e-6),
        number("flops", 1e-9),
        number("seconds_per_ordered_pair", 1e3),
        number("roofline"),
        number("ratio"),
    )


def _number(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.3g}"


def _interval(value: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*value)


def _signed(value: Sequence[float]) -> str:
    return "{:+.1f} [{:.1f}, {:.1f}]".format(*value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows under a head, each column as wide as it must be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        first, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(["", first, *rest]).rstrip()
