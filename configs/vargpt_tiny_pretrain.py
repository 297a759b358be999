"""Pre-trains `vargpt-tiny` on the labels of `bagel_tiny_pretrain`: few, uneven, some of them wrong.

asg-jax pretrain --config=vargpt_tiny_pretrain --workdir=runs/vargpt_tiny_pretrain
"""

from dataclasses import asdict

from ml_collections import ConfigDict

from asg_jax.train.pretrain.settings import PretrainSettings


def get_config() -> ConfigDict:
    """The settings of the run."""
    settings = PretrainSettings(
        size="vargpt-tiny",
        scenes=5_000,
        wordings=(0.55, 0.30, 0.15, 0.0),
        framings=(0.16, 0.28, 0.18, 0.12, 0.10, 0.09, 0.07),
        wrong=0.04,
        habits=0.75,
        prompts=32,
        draws=2,
        steps=1_500,
        prompt_length=48,
        kl=0.1,
    )
    return ConfigDict(asdict(settings))
