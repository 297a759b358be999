"""Run the ablations over several seeds, one after another; the same command goes on later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from absl import flags

from asg_jax.errors import UserError
from asg_jax.models.places import place
from asg_jax.ranges import SEED
from asg_jax.train.evolve.ablations import gather, markdown, names, share_judgement, vary
from asg_jax.train.evolve.config import read
from asg_jax.train.evolve.files import write_bytes, write_json
from asg_jax.train.evolve.run import finish
from asg_jax.train.flags import define_config, parse

USAGE = "usage: asg-jax ablate [--names=A,B] [--seeds=0,1,2] [--config.FIELD=VALUE ...]"


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    define_config(f, "bagel_tiny")
    flags.DEFINE_list("names", [], "Which ablations; all of the method by default.", f)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each of them.", f)
    flags.DEFINE_string("workdir", "runs/ablations", "Of the runs, one folder each.", f)
    flags.DEFINE_string("out", "docs/ablations", "Files OUT.json and OUT.md with the gains.", f)
    return f


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit status says whether it was stopped."""
    f = define()
    if parse(f, argv, USAGE, settings=read) is None:
        return 0
    base, workdir, out = read(f.config.to_dict()), place(f.workdir), place(f.out)
    chosen = f.names or names(base)
    runs = [(name, vary(base, name, _seed(seed))) for seed in f.seeds for name in chosen]
    done: dict[str, list[Path]] = {name: [] for name in chosen}
    for name, config in runs:
        folder = workdir / config.name
        print(f"{config.name}: in {folder}", flush=True)
        status = finish(config, folder, partial(share_judgement, folder, workdir))
        if status:
            return status
        jax.clear_caches()  # the next run's programs are others
        done[name].append(folder)
        _write(out, gather(done))
    return 0


def _seed(text: str) -> int:
    fault = SEED.fault(int(text)) if text.lstrip("-").isdecimal() else "a number"
    if fault:
        raise UserError(f"--seeds has '{text}'; a seed must be {fault}.")
    return int(text)


def _write(out: Path, found: Mapping[str, Any]) -> None:
    """Both files, anew after every run."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.with_suffix(".json"), found)
    write_bytes(out.with_suffix(".md"), ("\n".join(markdown(found)) + "\n").encode())
