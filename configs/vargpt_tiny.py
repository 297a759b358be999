"""Self-evolves `vargpt-tiny` on unlabeled rendered scenes, as `bagel_tiny` does.

asg-jax evolve --config=vargpt_tiny --workdir=runs/vargpt_tiny

The bits of a drawing are learned from under the distribution that they were drawn from: without
guidance.
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
