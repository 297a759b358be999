"""What a finished run says of itself: numbers as JSON, and a short table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asg_jax.train.evaluate.generation import DRAWN
from asg_jax.train.evaluate.outcomes import ALL
from asg_jax.train.evaluate.scores import (
    GENERATION,
    UNDERSTANDING,
    Scores,
    Table,
    compare,
    headroom,
    summary,
)
from asg_jax.train.evaluate.understanding import GREEDY, SAMPLED

# How a summary calls a measure -> its part, its name there, and the label of its kinds.
MEASURES = {
    "understanding": (UNDERSTANDING, GREEDY, "kind"),
    "sampled": (UNDERSTANDING, SAMPLED, "kind"),
    "generation": (GENERATION, DRAWN, "category"),
}
TITLES = {
    "understanding": "questions, greedy",
    "sampled": "questions, T = 1",
    "generation": "pictures",
}


def gains(before: Scores, after: Scores) -> dict[str, Any]:
    """Scores before and after, in points of 100, and their differences with 95 % intervals."""
    tables = [summary(before), summary(after), compare(before, after)]
    found: dict[str, Any] = {
        name: measured(tables, part, measure, ALL)
        | {"by_kind": split(tables, part, measure, label)}
        for name, (part, measure, label) in MEASURES.items()
    }
    found["wording"] = split(tables, UNDERSTANDING, GREEDY, "wording")
    found["combination"] = {
        name: split(tables, part, measure, "combination")
        for name, (part, measure, _) in MEASURES.items()
    }
    room = {"before": headroom(before), "after": headroom(after)}
    found["headroom"] = {
        when: {name: {"value": gain.value, "ci95": list(gain[1:])} for name, gain in own.items()}
        for when, own in room.items()
    }
    return found


def measured(tables: Sequence[Table], part: str, measure: str, name: str) -> dict[str, Any]:
    """One statistic of the tables of two models and of their difference."""
    before, after, change = (table[part][measure][name] for table in tables)
    return {
        "before": before.value,
        "after": after.value,
        "delta": change.value,
        "ci95": [change.low, change.high],
    }


def split(tables: Sequence[Table], part: str, measure: str, label: str) -> dict[str, Any]:
    """The same for every group of a label."""
    prefix = f"{label}: "
    names = [name for name in tables[-1][part][measure] if name.startswith(prefix)]
    return {name.removeprefix(prefix): measured(tables, part, measure, name) for name in names}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A summary as a short table."""
    yield f"{found['steps']} steps in {found['seconds']:.0f} s, seed {found['seed']}"
    if "understanding" not in found:
        return
    yield f"{'points of 100':<24}{'before':>8}{'after':>8}{'change':>8}   95 %"
    for name, title in TITLES.items():
        yield _row(title, found[name])
        if name != "sampled":
            yield from (_row(f"  {kind}", gain) for kind, gain in found[name]["by_kind"].items())


def _row(title: str, gain: Mapping[str, Any]) -> str:
    low, high = gain["ci95"]
    numbers = f"{gain['before']:>8.1f}{gain['after']:>8.1f}{gain['delta']:>+8.1f}"
    return f"{title:<24}{numbers}   {low:+.1f} to {high:+.1f}"
