"""Pre-trains `vargpt-tiny` on the labels of `bagel_tiny_pretrain`: few, uneven, some of them wrong.

asg-jax pretrain --config=vargpt_tiny_pretrain --workdir=runs/vargpt_tiny_pretrain
"""

from ml_collections import ConfigDict

from asg_jax.configs import bagel_tiny_pretrain


def get_config() -> ConfigDict:
    """The settings of the run."""
    config = bagel_tiny_pretrain.get_config()
    config.update(
        size="vargpt-tiny",
        draws=2,
        prompt_length=48,
        autoencoder={"steps": 2_400, "rate": 8e-3, "strength": 0.1},
        steps=2_500,
    )
    return config
