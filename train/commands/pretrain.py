"""Pre-train a small model on labelled rendered scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from asg_jax.errors import UserError
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
    if parse(f, argv, USAGE) is None:
        return
    try:
        settings = PretrainSettings(**f.config)
    except TypeError as error:
        raise UserError(f"the config does not describe a pre-training run ({error}).") from error
    folder = pretrain(settings, Path(f.workdir).expanduser())
    print(f"wrote the model to {folder}; `asg-jax evaluate --model={folder}` measures it")
