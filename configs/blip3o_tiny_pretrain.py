"""Pre-trains `blip3o-tiny` on the labels of `bagel_tiny_pretrain`: few, uneven, some of them wrong.

Its five networks learn one after another: the autoencoder; EVA-CLIP, to tell what stands where; the
UNet, to find a picture's latents from these features; then the language model, with its eyes and
queries, and the transformer that draws features.

    asg-jax pretrain --config=blip3o_tiny_pretrain --workdir=runs/blip3o_tiny_pretrain
"""

from ml_collections import ConfigDict

from asg_jax.configs import bagel_tiny_pretrain


def get_config() -> ConfigDict:
    """The settings of the run."""
    config = bagel_tiny_pretrain.get_config()
    config.update(
        size="blip3o-tiny",
        prompt_length=48,
        encoder={"steps": 1_500},
        decoder={"steps": 2_000},
        steps=2_500,
    )
    return config
