"""List the runs that `--config` takes by name, and the methods."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from asg_jax.methods import METHODS
from asg_jax.train.flags import config_files, parse
from asg_jax.train.main import help_line

USAGE = "usage: asg-jax configs"


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    if parse(flags.FlagValues(), argv, USAGE) is None:
        return
    files = config_files()
    width = max(map(len, files))
    for name, file in files.items():
        print(f"{name:<{width}}  {help_line(file)}")
    print(f"\n--config=NAME:METHOD runs another method; there are: {', '.join(METHODS)}.")
    print("`asg-jax evolve --config=NAME --help` lists the settings (pretrain for *_pretrain).")
