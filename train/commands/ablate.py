"""Run the ablations over several seeds, one after another; the same command goes on later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from asg_jax.train.evolve.ablations import NAMES, gather, markdown, share_judgement, vary
from asg_jax.train.evolve.config import read
from asg_jax.train.evolve.files import write_bytes, write_json
from asg_jax.train.evolve.run import claim, finish
from asg_jax.train.flags import define_config, parse

USAGE = "usage: asg-jax ablate [--names=A,B] [--seeds=0,1,2] [--config.FIELD=VALUE ...]"


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    define_config(f, "bagel_tiny")
    flags.DEFINE_list("names", list(NAMES), "Which ablations.", f)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each of them.", f)
    flags.DEFINE_string("workdir", "runs/ablations", "Of the runs, one folder each.", f)
    flags.DEFINE_string("out", "docs/ablations", "Files OUT.json and OUT.md with the gains.", f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    if parse(f, argv, USAGE) is None:
        return
    base, place = read(f.config.to_dict()), Path(f.workdir).expanduser()
    runs = [(name, vary(base, name, int(seed))) for seed in f.seeds for name in f.names]
    done: dict[str, list[Path]] = {name: [] for name in f.names}
    for name, config in runs:
        folder = place / config.name
        claim(folder, config)
        share_judgement(folder, place)
        print(f"{config.name}: in {folder}", flush=True)
        if not finish(config, folder):
            return
        jax.clear_caches()  # the next run's programs are others
        done[name].append(folder)
        _write(Path(f.out).expanduser(), gather(done))


def _write(out: Path, found: Mapping[str, Any]) -> None:
    """Both files, anew after every run."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.with_suffix(".json"), found)
    write_bytes(out.with_suffix(".md"), ("\n".join(markdown(found)) + "\n").encode())
