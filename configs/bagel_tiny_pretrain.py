"""Pre-trains `bagel-tiny`: few labels, some of them wrong, some wordings much rarer than others.

Each of the seven instructions around a question was labelled by an annotator with habits of their
own, so that the model errs differently when it is asked in other words.

    asg-jax pretrain --config=bagel_tiny_pretrain --workdir=runs/bagel_tiny_pretrain
"""

from dataclasses import asdict

from ml_collections import ConfigDict

from asg_jax.train.pretrain.settings import PretrainSettings


def get_config() -> ConfigDict:
    """The settings of the run."""
    settings = PretrainSettings(
        scenes=5_000,
        wordings=(0.55, 0.30, 0.15, 0.0),
        framings=(0.16, 0.28, 0.18, 0.12, 0.10, 0.09, 0.07),
        wrong=0.04,
        habits=0.75,
    )
    return ConfigDict(asdict(settings))
