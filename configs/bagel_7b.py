"""Self-evolves BAGEL-7B-MoT on any folder of pictures, as the paper does (arXiv 2606.27376).

Trains three LoRA adapters (Proposer, Solver, Generator) on the frozen model, for 16 devices:

asg-jax evolve --config=bagel_7b --workdir=runs/bagel_7b \
    --config.model=BAGEL-7B-MoT --config.data.folder=PICTURES

`--config=bagel_7b:asg:v5e-64` runs on other devices, those of `MESHES`; what it learns is the same.

The paper's pictures: 10,000 of COCO, SA-1B, TextVQA, GQA and LAION-COCO, without annotations. What
it reports for BAGEL, base and evolved (not reproduced here: that takes weights and accelerators):

    MMMU     55.3   58.8        MMVet     67.2   69.5
    MMBench  85.0   87.1        MME-P   1687.0 1701.7
    TextVQA  86.0   88.5        MME-C    701.0  715.9
    SEED     79.3   81.8        GenEval   82     85
    RWQA     71.2   73.9

Drawings are judged by the probabilities of the reference answers and of the prompt, which told good
from bad on the tiny models where votes and cosines of embeddings did not; the paper's own signals
are `vote_fidelity` and `cosine_cycle` (`--config.method.weights.cosine_cycle=0.2`). Pictures are
brought to 448 pixels, as the official release has them for this model.

The adapters that the run writes are PEFT folders: merge one with `asg-jax convert --adapter=FOLDER`
to evaluate it with other tools.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from asg_jax.backbone import Sampler
from asg_jax.engine.roles import DrawingRole, Optimizer, TextRole
from asg_jax.errors import UserError
from asg_jax.methods import settings_for
from asg_jax.objectives.drawings import RWR
from asg_jax.objectives.texts import Reinforce
from asg_jax.signals.table import DRAWINGS, weights_of
from asg_jax.train.evolve.config import Batch, Data, MeshAxes, RunConfig, Saving
from asg_jax.train.evolve.typed import as_config

# What fits the model, for the methods that know these settings.
METHOD = {
    "proposer": TextRole(rank=16, alpha=32.0),
    "solver": TextRole(rank=16, alpha=32.0, objective=Reinforce()),
    "generator": DrawingRole(rank=16, alpha=32.0, objective=RWR()),
    "optimizer": Optimizer(clip_norm=1.0, weight_decay=0.01),
    # 448 pixels: the vision tower reads drawings of this size as they are.
    "sampler": Sampler(grid=(28, 28), steps=25, guidance=1.0),
    "weights": weights_of(
        DRAWINGS,
        probability_fidelity=0.65,
        likelihood_cycle=0.20,
        diversity=0.10,
        contradiction=-0.20,
    ),
}
RUN = RunConfig(
    name="bagel_7b",
    model="BAGEL-7B-MoT",
    language="english",
    method=settings_for("asg", METHOD),
    dtype="bfloat16",
    remat="full",
    seed=42,
    steps=10_000,
    data=Data(side=448),
    batch=Batch(understanding=16, generation=16, micro=1),
    checkpoint=Saving(every=50),
    mesh=MeshAxes(fsdp=16),
)


# Devices as clouds name them. A v5p is named by its cores, two of a device.
MESHES = {
    "v5e-16": MeshAxes(fsdp=16),
    "v5e-64": MeshAxes(fsdp=16, tensor=4),
    "v5p-16": MeshAxes(fsdp=8),
    "v6e-16": MeshAxes(fsdp=16),
    "h200": MeshAxes(),
    "h100-8": MeshAxes(fsdp=8),
}


def get_config(method: str = "asg", devices: str = "v5e-16") -> ConfigDict:
    """The settings of a run of some method, on devices of `MESHES`."""
    run = replace(RUN, method=settings_for(method, METHOD), mesh=mesh_for(devices))
    if devices == "h200":  # has room for what others compute twice
        run = replace(run, remat="dots")
    return as_config(run)


def mesh_for(devices: str) -> MeshAxes:
    """The mesh of some devices.

    Raises:
      UserError: `MESHES` does not name them.
    """
    if devices not in MESHES:
        raise UserError(f"the config has no devices '{devices}'; it has {', '.join(MESHES)}.")
    return MESHES[devices]
