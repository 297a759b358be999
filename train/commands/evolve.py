"""Let a model improve itself from unlabeled pictures."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from asg_jax.train.evolve import processes
from asg_jax.train.evolve.config import read
from asg_jax.train.evolve.files import folder_of, read_json
from asg_jax.train.evolve.logs import say
from asg_jax.train.evolve.run import PICTURE, SUMMARY, finish
from asg_jax.train.evolve.summary import lines
from asg_jax.train.flags import define_config, parse

USAGE = "usage: asg-jax evolve [--config=NAME] [--workdir=FOLDER] [--config.FIELD=VALUE ...]"


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    define_config(f, "bagel_tiny")
    flags.DEFINE_string("workdir", None, "Of the run, or gs://...; runs/NAME by default.", f)
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 of several, or auto.", f)
    flags.DEFINE_integer("processes", None, "How many there are.", flag_values=f)
    flags.DEFINE_integer("process", None, "Which one this is, from 0.", flag_values=f)
    meaning = "Compile every program before the first step; on accelerators by default."
    flags.DEFINE_boolean("warmup", None, meaning, f)
    return f


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit status says whether the run was stopped."""
    f = define()
    if parse(f, argv, USAGE, settings=read) is None:
        return 0
    processes.connect(f.coordinator, f.processes, f.process)
    config = read(f.config.to_dict())
    folder = folder_of(f.workdir or f"runs/{config.name}")
    status = finish(config, folder, warmup=f.warmup)
    if status == 0 and processes.leads():
        found = read_json(folder / SUMMARY, "steps", "seconds", "seed")
        say(*lines(found), *(f"wrote {folder / name}" for name in (SUMMARY, PICTURE)))
    return status
