"""What several runs tell together: mean gains with paired intervals, against those of controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from asg_jax.train.evaluate.outcomes import ALL
from asg_jax.train.evaluate.scores import Pair, Scores, Table, compare, pooled
from asg_jax.train.evolve.files import Folder
from asg_jax.train.evolve.summary import MEASURES, TITLES

Runs = Mapping[str, Pair]  # scores before and after, by name
COLUMNS = {"gain": "gain", "control": "control", "difference": "gain - control"}


def read_runs(folders: Sequence[Folder]) -> dict[str, Pair]:
    """The scores of finished runs.

    Raises:
      UserError: a folder holds none.
    """
    load = lambda folder, when: Scores.load(folder / f"{when}.json")
    return {str(folder): (load(folder, "before"), load(folder, "after")) for folder in folders}


def pool(runs: Runs, controls: Runs) -> dict[str, Any]:
    """Mean gains in points of 100 with 95 % intervals over the items, and the gain of each run."""
    tables = {"gain": pooled(list(runs.values()))}
    if controls:
        tables["control"] = pooled(list(controls.values()))
        tables["difference"] = pooled(list(runs.values()), list(controls.values()))
    single = {name: compare(*pair) for name, pair in {**runs, **controls}.items()}
    return {
        name: {
            **_statistic(tables, part, measure, ALL),
            "runs": {run: table[part][measure][ALL].value for run, table in single.items()},
            "by_kind": {
                key.removeprefix(f"{label}: "): _statistic(tables, part, measure, key)
                for key in tables["gain"][part][measure]
                if key.startswith(f"{label}: ")
            },
        }
        for name, (part, measure, label) in MEASURES.items()
    }


def _statistic(tables: Mapping[str, Table], part: str, measure: str, key: str) -> dict[str, Any]:
    found = {name: table[part][measure][key] for name, table in tables.items()}
    return {name: {"value": x.value, "ci95": [x.low, x.high]} for name, x in found.items()}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The pooled gains as a table."""
    columns = [name for name in COLUMNS if name in found["understanding"]]
    yield f"{'points of 100':<22}" + "".join(f"{COLUMNS[name]:>26}" for name in columns)
    for name, title in TITLES.items():
        rows = {title: found[name], **{f"  {k}": v for k, v in found[name]["by_kind"].items()}}
        for label, row in rows.items() if name != "sampled" else [(title, found[name])]:
            yield f"{label:<22}" + "".join(f"{text(row[column]):>26}" for column in columns)


def text(statistic: Mapping[str, Any]) -> str:
    """A value with its interval."""
    low, high = statistic["ci95"]
    return f"{statistic['value']:+.1f} ({low:+.1f} to {high:+.1f})"
