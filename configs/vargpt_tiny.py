"""Self-evolves `vargpt-tiny` on unlabeled rendered scenes; not tuned.

asg-jax evolve --config=vargpt_tiny --workdir=runs/vargpt_tiny

The settings are those of `bagel_tiny`, but for the Generator: the bits of a drawing are learned
from under the distribution that they were drawn from, without guidance.
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
            "sampler": {"guidance": 1.0},
            "generator": {"learning_rate": 3e-4},
        },
        eval={"guidance": 2.0},
    )
    return config
