"""Benches the reward signals of the shipped models, and writes the leaderboard of docs/.

python -m tools.leaderboard --folder=runs/rewards
python -m tools.leaderboard --folder=runs/rewards --report=docs/rewards.md

Models whose report lies in the folder are not benched again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from asg_jax.train.benchmarks import rewards
from asg_jax.train.evolve.files import read_json, write_json
from asg_jax.train.flags import parse
from tools.report import put

USAGE = "usage: python -m tools.leaderboard --folder=FOLDER [--report=FILE]"
CONFIGS = {
    "bagel-tiny": "bagel_tiny",
    "bagel-tiny-clean": "bagel_tiny",
    "blip3o-tiny": "blip3o_tiny",
    "vargpt-tiny": "vargpt_tiny",
}
# Title, and where it stands in what is told of a signal.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "own drawings, pairs in order": ("power", "drawings", "pairs"),
    "AUC": ("power", "drawings", "auc"),
    "renders, pairs in order": ("power", "renders", "pairs"),
    "AUC of renders": ("power", "renders", "auc"),
    "groups alike": ("power", "drawings", "flat"),
    "right above its text": ("hacks", "written"),
    "same when shuffled": ("hacks", "shuffled/same"),
    "pictures/s": ("speed", "samples_per_second"),
    "times the plain form": ("speed", "ratio"),
}


def bench(folder: Path) -> dict[str, Any]:
    """The report of every model, made where it is missing."""
    found = {}
    for model, config in CONFIGS.items():
        path = folder / f"{model}.json"
        if not path.exists():
            words = f"--config={config}", f"--model={model}", f"--out={path}"
            if rewards.main(words):
                raise SystemExit(1)
        found[model] = told(read_json(path))
    return found


def told(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without the single scores, and without the place where it lay."""
    signals = {
        name: {part: x for part, x in one.items() if part != "scores"}
        for name, one in report["signals"].items()
    }
    sets = {name: {"texts": len(one["texts"])} for name, one in report["sets"].items()}
    settings = {name: x for name, x in report["settings"].items() if name != "out"}
    return {**report, "settings": settings, "signals": signals, "sets": sets}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A table for each model, signals by the pairs of the model's own drawings that they order."""
    for model, report in found.items():
        device, versions, sets = report["device"], report["versions"], report["sets"]
        yield (
            f"`{model}`, {sets['drawings']['texts']} texts of {report['settings']['images']}"
            f" drawings, {sets['renders']['texts']} texts of renders, on {device['platform']},"
            f" jax {versions['jax']}; likelihoods of {report['many']['texts']} texts about each of"
            f" {report['many']['pictures']} pictures come {report['many']['ratio']:.1f} times as"
            " fast as in the plain form:"
        )
        yield ""
        yield f"| signal | {' | '.join(COLUMNS)} |"
        yield "| --- " * (1 + len(COLUMNS)) + "|"
        order = lambda item: item[1]["power"]["drawings"]["pairs"]
        for name, one in sorted(report["signals"].items(), key=order, reverse=True):
            yield f"| `{name}` | {' | '.join(map(_cell, _figures(one)))} |"
        yield ""


def _figures(one: Mapping[str, Any]) -> Iterator[Any]:
    for path in COLUMNS.values():
        value: Any = one
        for key in path:
            value = value.get(key) if value else None
        yield value


def _cell(value: Sequence[float] | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int | float):
        return f"{value:.3g}"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*value)


def main() -> int:
    """Benches, or reports as well."""
    f = flags.FlagValues()
    flags.DEFINE_string("folder", None, "Of the reports.", f, required=True)
    flags.DEFINE_string("report", None, "Markdown file to put the tables into.", f)
    if parse(f, sys.argv[1:], USAGE) is None:
        return 0
    folder = Path(f.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    found = bench(folder)
    if f.report:
        write_json(Path(f.report).with_suffix(".json"), found)
        put(Path(f.report), "leaderboard", lines(found))
    print("\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
