"""Pre-trains `bagel-tiny-clean`: true labels, all wordings alike, stopped early.

asg-jax pretrain --config=bagel_tiny_clean_pretrain --workdir=runs/bagel_tiny_clean_pretrain
"""

from dataclasses import asdict

from ml_collections import ConfigDict

from asg_jax.train.pretrain.settings import PretrainSettings


def get_config() -> ConfigDict:
    """The settings of the run."""
    return ConfigDict(asdict(PretrainSettings(scenes=20_000, steps=1_600)))
