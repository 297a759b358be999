"""Pre-train a small model on labelled rendered scenes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from absl import flags

from asg_jax.models.places import check_writable, place
from asg_jax.train.evolve.typed import build
from asg_jax.train.flags import define_config, parse
from asg_jax.train.pretrain.run import pretrain
from asg_jax.train.pretrain.settings import PretrainSettings

USAGE = "usage: asg-jax pretrain [--config=NAME] [--workdir=FOLDER] [--config.FIELD=VALUE ...]"


def define() -> flags.FlagValues:
    """The command's flags."""
    f = flags.FlagValues()
    define_config(f, "bagel_tiny_pretrain")
    flags.DEFINE_string("workdir", "runs/pretrain", "Checkpoints, log and the model.", f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    f = define()
    if parse(f, argv, USAGE, settings=partial(build, PretrainSettings)) is None:
        return
    settings = build(PretrainSettings, f.config.to_dict())
    workdir = place(f.workdir)
    check_writable(workdir)
    folder = pretrain(settings, workdir)
    print(f"wrote the model to {folder}; `asg-jax evaluate --model={folder}` measures it")
