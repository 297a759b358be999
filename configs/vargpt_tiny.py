"""Self-evolves `vargpt-tiny` on unlabeled rendered scenes; first values, not tuned.

asg-jax evolve --config=vargpt_tiny --workdir=runs/vargpt_tiny
"""

from ml_collections import ConfigDict

from asg_jax.backbone import Sampler
from asg_jax.methods.asg.settings import Lengths, Role, Settings, Temperatures
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.config import Batch, RunConfig
from asg_jax.train.evolve.typed import as_config


def get_config() -> ConfigDict:
    """The settings of the run."""
    method = Settings(
        framings=7,
        temperatures=Temperatures(answer=0.6),
        proposer=Role(1e-5, rank=32, alpha=64.0),
        solver=Role(2e-4, rank=32, alpha=64.0),
        generator=Role(3e-4, rank=32, alpha=64.0),
        lengths=Lengths(question=24, answer=8, caption=32, spec=104),
        sampler=Sampler(grid=(4, 4), guidance=1.0),
        objective="grpo",
        warmup=10,
    )
    config = RunConfig(
        name="vargpt_tiny",
        model="vargpt-tiny",
        language="scenes",
        seed=0,
        steps=250,
        batch=Batch(understanding=16, generation=16),
        method=method,
        eval=EvalSettings(guidance=2.0),
    )
    return as_config(config)
