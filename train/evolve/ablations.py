"""Runs that differ in one thing, over several seeds, and a table of what each of them gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from asg_jax.errors import UserError
from asg_jax.methods import preset
from asg_jax.train.evolve.config import FILE, RunConfig
from asg_jax.train.evolve.files import Folder, read_json, write_bytes
from asg_jax.train.evolve.pool import pool, read_runs, text
from asg_jax.train.evolve.summary import TITLES
from asg_jax.train.evolve.typed import changed

FULL = "full"  # the run that the others are compared with
OWN = {"self_generated_only": {"replay.only": True}}  # of the run rather than of the method
# What each lost in the paper with BLIP3o, in points of MMMU and of GenEval; two stages: of the mean
# over understanding benchmarks. (arXiv 2606.27376, ablations.)
PAPER = {
    "understanding_only": (-0.3, -4.0),
    "generation_only": (-2.2, -1.0),
    "no_ste": (-1.8, -1.0),
    "no_self_consistency": (-1.3, -1.0),
    "temperature_for_framings": (-0.8, -1.0),
    "no_fidelity": (-0.3, -3.0),
    "no_cycle": (-0.5, -2.0),
    "sft": (-1.4, -2.0),
    "self_generated_only": (-0.8, -2.0),
    "two_stage": (-1.0, -2.0),
}
COMPARED = ("understanding", "generation")  # with the paper's two columns
POWER = 2.8 / 3.92  # of a 95 % interval's width: found in 4 of 5 tries, at the 5 % level


def names(config: RunConfig) -> list[str]:
    """The full method, and every ablation that takes away what this config has."""
    known = [*preset(config.method.name).ablations, *OWN]
    return [FULL, *(name for name in known if _without(config, name) != config)]


def vary(config: RunConfig, name: str, seed: int) -> RunConfig:
    """The settings of one run.

    Raises:
      UserError: no ablation has that name, or it changes nothing.
    """
    known = names(config)
    if name not in known:
        raise UserError(
            f"there is no ablation '{name}' that changes this config; known are {', '.join(known)}."
        )
    return replace(_without(config, name), name=f"{name}_{seed}", seed=seed)


def _without(config: RunConfig, name: str) -> RunConfig:
    """The settings without what an ablation takes away."""
    changes = preset(config.method.name).ablations.get(name, {})
    method = config.method
    method = changes(method, config.steps) if callable(changes) else changed(method, changes)
    return changed(replace(config, method=method), OWN.get(name, {}))


def share_judgement(folder: Folder, place: Folder) -> None:
    """Takes the judgement of the same frozen model over from a run beside it."""
    files = ("before.npz", "before.json")  # the second vouches for the first
    own = _judged(folder)
    whole = (run for run in place.glob("*") if all((run / name).exists() for name in files))
    known = next((run for run in whole if _judged(run) == own), None)
    if known is not None and not (folder / files[-1]).exists():
        for name in files:
            write_bytes(folder / name, (known / name).read_bytes())


def _judged(folder: Folder) -> list[Any]:
    """What the judgement of a run's frozen model depends on."""
    needed = ("model", "language", "dtype", "eval")
    config = read_json(folder / FILE, *needed)
    return [config[name] for name in needed]


def gather(folders: Mapping[str, Sequence[Folder]]) -> dict[str, Any]:
    """The pooled gains of every ablation that has runs, next to those of the full method."""
    runs = {name: read_runs(paths) for name, paths in folders.items() if paths}
    full = runs.get(FULL, {})
    return {
        name: pool(own, full if name != FULL else {}) | {"seeds": len(own)}
        for name, own in runs.items()
    }


def markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """The gains as a Markdown table, and what they can tell."""
    yield "Gains in points of 100 with 95 % intervals; `less full`: minus those of the full method."
    yield ""
    heads = " | ".join(f"{title} | less full" for title in TITLES.values())
    yield f"| run | seeds | {heads} | lost in the paper: MMMU, GenEval | the same loss here |"
    yield "| --- " * (4 + 2 * len(TITLES)) + "|"
    for name, own in found.items():
        cells = [name.replace("_", " "), str(own["seeds"])]
        for measure in TITLES:
            cells.append(text(own[measure]["gain"]))
            other = own[measure].get("difference")
            cells.append(text(other) if other else "")
        lost = PAPER.get(name)
        cells.append(f"{lost[0]:+.1f}, {lost[1]:+.1f}" if lost else "")
        known = lost and "difference" in own[COMPARED[0]]
        cells.append(", ".join(verdict(own[m]) for m in COMPARED) if known else "")
        yield "| " + " | ".join(cells) + " |"
    others = [
        own for name, own in found.items() if name != FULL and "difference" in own[COMPARED[0]]
    ]
    if others:
        yield ""
        yield from detectable(others)


def verdict(own: Mapping[str, Any]) -> str:
    """Whether an ablation loses against the full method, as all of the paper's do."""
    low, high = own["difference"]["ci95"]
    return "yes" if high < 0 else "no, it gains" if low > 0 else "undecided"


def detectable(others: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The smallest differences that such runs would show, in words."""
    widths = {m: [np.ptp(own[m]["difference"]["ci95"]) for own in others] for m in TITLES}
    sizes = ", ".join(f"{TITLES[m]} {POWER * max(widths[m]):.1f}" for m in TITLES)
    yield (
        f"Smallest difference from the full method that would be found in four of five tries, in "
        f"points: {sizes}. Intervals resample questions and prompts; how much runs differ by seed "
        "is to be seen in the gains of single runs, in the JSON file."
    )
