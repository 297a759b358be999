"""Scores as lines of text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asg_jax.train.evaluate.bootstrap import Interval
from asg_jax.train.evaluate.generation import BEST, DRAWN
from asg_jax.train.evaluate.outcomes import ALL, CLEAR, OF_CLEAR
from asg_jax.train.evaluate.scores import (
    BEST_OF,
    GENERATION,
    UNDERSTANDING,
    Scores,
    Table,
    compare,
    headroom,
    summary,
)
from asg_jax.train.evaluate.understanding import ENSEMBLE, GREEDY, SAMPLED, VOTE

MEASURES = {
    GREEDY: "greedy answer",
    SAMPLED: "answers at T = 1",
    ENSEMBLE: "vote of the framings",
    VOTE: "vote of answers at T = 1",
    DRAWN: "one picture",
    BEST: "best of several pictures",
}
ITEMS = {UNDERSTANDING: "questions", GENERATION: "prompts", BEST_OF: "prompts"}
BROKEN_DOWN = (GREEDY, DRAWN)  # measures whose groups are listed
DIFFERENCE = "difference"  # name of the column with the first model's scores minus the second's
NAME, WIDTH = 32, 22  # characters of the columns


def tables(scores: Mapping[str, Scores]) -> dict[str, Table]:
    """One table for each model by name, and one of the difference between two.

    Raises:
      UserError: two models were scored on different items.
    """
    columns = {name: summary(own) for name, own in scores.items()}
    if len(scores) == 2:
        after, before = scores.values()
        columns[DIFFERENCE] = compare(before, after)
    return columns


def lines(scores: Mapping[str, Scores], columns: Mapping[str, Table]) -> Iterator[str]:
    """The text that people read: points of 100 with 95 % intervals.

    Args:
      scores: one or two models' by name.
      columns: their `tables`.
    """
    yield "Points of 100 with 95 % intervals, from resampled pictures."
    for part, outcomes in next(iter(scores.values())).parts.items():
        yield ""
        yield _row(f"{part} ({len(outcomes.clusters)} {ITEMS[part]})", list(columns))
        for measure in outcomes.right:
            yield from _measure(part, measure, columns)
    gains = {name: headroom(own) for name, own in scores.items()}
    if any(gains.values()):
        yield ""
        yield _row("headroom", list(gains))
    for name in dict.fromkeys(name for own in gains.values() for name in own):
        title = f"{MEASURES[name.split('/')[1]]}"
        yield _row(title, [_text(own.get(name), signed=True) for own in gains.values()])


def _measure(part: str, measure: str, columns: Mapping[str, Table]) -> Iterator[str]:
    """A row for all items, and rows for the statistics of interest below it."""
    found = {name: table.get(part, {}).get(measure, {}) for name, table in columns.items()}
    broken_down = measure in BROKEN_DOWN and part != BEST_OF
    for statistic in dict.fromkeys(name for own in found.values() for name in own):
        if broken_down or statistic in (ALL, CLEAR, OF_CLEAR):
            title = MEASURES[measure] if statistic == ALL else f"  {statistic}"
            texts = [_text(own.get(statistic), n == DIFFERENCE) for n, own in found.items()]
            yield _row(title, texts)


def _row(title: str, values: Sequence[str]) -> str:
    return "  ".join([f"{title:<{NAME}}", *(f"{value:>{WIDTH}}" for value in values)]).rstrip()


def _text(interval: Interval | None, signed: bool) -> str:
    if interval is None:
        return ""
    value, low, high = (f"{x:{'+' if signed else ''}.1f}" for x in interval)
    return f"{value} {f'[{low}, {high}]':>14}"


def document(
    settings: Mapping[str, Any], scores: Mapping[str, Scores], columns: Mapping[str, Table]
) -> dict[str, Any]:
    """What `scores.json` holds: settings, tables of [value, low, high], every item.

    Args:
      settings: the evaluation's.
      scores: one or two models' by name.
      columns: their `tables`.
    """
    return {
        "settings": dict(settings),
        "tables": dict(columns),
        "headroom": {name: headroom(own) for name, own in scores.items()},
        "scores": {name: own.to_json() for name, own in scores.items()},
    }
