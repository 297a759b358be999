"""Self-evolves `vargpt-tiny` on unlabeled rendered scenes, in minutes on a CPU.

asg-jax evolve --config=vargpt_tiny --workdir=runs/vargpt_tiny

The settings are those of `bagel_tiny`, but for the Generator: its bits are learned from under the
distribution that they were drawn from, without guidance; it adapts the visual decoder and the
projectors too; and because a reward says little about any single bit, more drawings of a prompt
are compared.
"""

from ml_collections import ConfigDict

from asg_jax.configs import bagel_tiny


def get_config() -> ConfigDict:
    """The settings of the run."""
    config = bagel_tiny.get_config()
    config.update(
        name="vargpt_tiny",
        model="vargpt-tiny",
        method={
            "objective": "grpo",
            "draws": 1,
            "images": 16,
            "sampler": {"guidance": 1.0},
            "generator": {"learning_rate": 5e-4, "modules": "drawing"},
        },
        eval={"guidance": 2.0},
    )
    return config
