"""List the models that `--model` takes by name."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from asg_jax.models.registry import (
    FAMILIES,
    RANDOM,
    Family,
    family,
    model_folder,
    shipped_models,
)
from asg_jax.train.data.grammar import vocabulary
from asg_jax.train.flags import parse

USAGE = "usage: asg-jax models"
HEADLINES = {"understanding": ("greedy", "answers"), "generation": ("drawn", "pictures")}


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    if parse(flags.FlagValues(), argv, USAGE) is None:
        return
    print("\n".join(lines()))


def lines() -> Iterator[str]:
    """What there is, one line each, and what else may be named."""
    kinds: dict[str, Family] = {name: family(name) for name in FAMILIES}
    yield "come with the package (right of 100: answers, pictures):"
    for name in shipped_models():
        folder = model_folder(name)
        kind = next(own for own, offers in kinds.items() if offers.describes(folder))
        yield f"  {name:<17} {kind:<7} rendered scenes, {_scores(folder)}"
    known = " ".join(word for word in vocabulary() if word.isalpha())
    yield from textwrap.wrap(f"They know these words: {known}.", 96, initial_indent="  ")
    yield "\nrandom weights, to measure and to test:"
    for own, offers in kinds.items():
        yield f"  {own:<7} " + ", ".join(f"{RANDOM}{size}" for size in offers.sizes)
    yield "\nor a folder with a checkpoint or a finished run, ORG/NAME[@REVISION] of the hub"


def _scores(folder: Path) -> str:
    table = json.loads((folder / "scores.json").read_text())["points of 100: value, low, high"]
    found = [(table[part][measure]["all"][0], told) for part, (measure, told) in HEADLINES.items()]
    return ", ".join(f"{told} {value:.0f}" for value, told in found)
