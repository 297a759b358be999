"""Runs that differ in one thing, over several seeds, and a table of what each of them gains."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asg_jax.methods.asg import ABLATIONS, ablation
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.pool import pool, read_runs, text
from asg_jax.train.evolve.summary import TITLES

FULL = "full"  # the run that the others are compared with
OWN = ("self_generated_only", "two_stage")  # ablations of the run rather than of the method
NAMES = (FULL, *ABLATIONS, *OWN)


def vary(config: RunConfig, name: str, seed: int) -> RunConfig:
    """The settings of one run.

    Raises:
      UserError: no ablation has that name.
    """
    config = replace(config, name=f"{name}_{seed}", seed=seed)
    if name == FULL:
        return config
    if name == "self_generated_only":
        return replace(config, replay=replace(config.replay, only=True))
    if name == "two_stage":
        method = config.method
        cycle = method.understanding_steps + method.generation_steps
        first = config.steps * method.understanding_steps // cycle
        stages = {"understanding_steps": first, "generation_steps": config.steps - first}
        return replace(config, method=replace(method, **stages))
    return replace(config, method=ablation(config.method, name))


def share_judgement(folder: Path, place: Path) -> None:
    """Takes the judgement of the frozen model over from a run beside it: it is the same."""
    known = next(place.glob("*/before.json"), None)
    if known is not None and not (folder / known.name).exists():
        shutil.copy2(known.with_suffix(".npz"), folder)
        shutil.copy2(known, folder)


def gather(folders: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """The pooled gains of every ablation that has runs, next to those of the full method."""
    runs = {name: read_runs(paths) for name, paths in folders.items() if paths}
    full = runs.get(FULL, {})
    return {
        name: pool(own, full if name != FULL else {}) | {"seeds": len(own)}
        for name, own in runs.items()
    }


def markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """The gains as a Markdown table."""
    yield "| run | seeds | " + " | ".join(f"{t} | less full" for t in TITLES.values()) + " |"
    yield "| --- " * (2 + 2 * len(TITLES)) + "|"
    for name, own in found.items():
        cells = [name.replace("_", " "), str(own["seeds"])]
        for measure in TITLES:
            cells.append(text(own[measure]["gain"]))
            other = own[measure].get("difference")
            cells.append(text(other) if other else "")
        yield "| " + " | ".join(cells) + " |"
