"""Self-evolves BAGEL-7B-MoT on any folder of pictures, as the paper does (arXiv 2606.27376).

Trains three LoRA adapters (Proposer, Solver, Generator) on the frozen model, for 16 devices:

asg-jax evolve --config=bagel_7b --workdir=runs/bagel_7b \
    --config.model=BAGEL-7B-MoT --config.data.folder=PICTURES

The paper's pictures: 10,000 of COCO, SA-1B, TextVQA, GQA and LAION-COCO, without annotations. What
it reports for BAGEL, base and evolved (not reproduced here: that takes weights and accelerators):

    MMMU     55.3   58.8        MMVet     67.2   69.5
    MMBench  85.0   87.1        MME-P   1687.0 1701.7
    TextVQA  86.0   88.5        MME-C    701.0  715.9
    SEED     79.3   81.8        GenEval   82     85
    RWQA     71.2   73.9

The adapters that the run writes are PEFT folders: merge one with `asg-jax convert --adapter=FOLDER`
to evaluate it with other tools.
"""

from ml_collections import ConfigDict

from asg_jax.backbone import Sampler
from asg_jax.methods.asg.settings import Role, Settings
from asg_jax.train.evolve.config import Batch, Checkpoint, MeshAxes, RunConfig
from asg_jax.train.evolve.typed import as_config


def get_config() -> ConfigDict:
    """The settings of the run."""
    role = Role(learning_rate=1e-6, rank=16, alpha=32.0)
    method = Settings(
        proposer=role,
        solver=role,
        generator=role,
        # 448 pixels: the vision tower reads drawings of this size as they are.
        sampler=Sampler(grid=(28, 28), steps=25, guidance=1.0),
        objective="rwr",
        clip_norm=1.0,
        weight_decay=0.01,
    )
    config = RunConfig(
        name="bagel_7b",
        model="BAGEL-7B-MoT",
        language="english",
        dtype="bfloat16",
        remat="full",
        seed=42,
        steps=10_000,
        batch=Batch(understanding=16, generation=16),
        checkpoint=Checkpoint(every=50),
        mesh=MeshAxes(fsdp=16),
        method=method,
    )
    return as_config(config)
