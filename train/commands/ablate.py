"""Run the ablations over several seeds, one after another; the same command goes on later."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
from absl import flags

from asg_jax.models.places import place
from asg_jax.train.evolve.ablations import gather, markdown, names, share_judgement, vary
from asg_jax.train.evolve.config import read
from asg_jax.train.evolve.files import write_tables
from asg_jax.train.evolve.run import finish
from asg_jax.train.flags import define_config, parse, seeds

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
    runs = [(name, vary(base, name, seed)) for seed in seeds(f.seeds) for name in chosen]
    done: dict[str, list[Path]] = {name: [] for name in chosen}
    for name, config in runs:
        folder = workdir / config.name
        print(f"{config.name}: in {folder}", flush=True)
        status = finish(config, folder, partial(share_judgement, folder, workdir))
        if status:
            return status
        jax.clear_caches()  # the next run's programs are others
        done[name].append(folder)
        found = gather(done)
        write_tables(out, found, markdown(found))
    return 0
