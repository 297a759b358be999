"""Self-evolves BLIP3o-8B on any folder of pictures, as the paper does (arXiv 2606.27376).

Trains three LoRA adapters (Proposer, Solver, Generator) on the frozen model, for 16 devices:

asg-jax evolve --config=blip3o_8b --workdir=runs/blip3o_8b \
    --config.model=BLIP3o-Model-8B --config.data.folder=PICTURES

The folder holds the files of the checkpoint, `diffusion-decoder` among them. A `blip3o_config.json`
of {"size": [896, 896], "guidance": 2.0} beside its config.json draws pictures as the official
self-evolution does; without it they have 1024 pixels and guidance 3.

The paper's pictures: 10,000 of COCO, SA-1B, TextVQA, GQA and LAION-COCO, without annotations. What
it reports for BLIP3o, base and evolved (not reproduced here: that takes weights and accelerators):

    MMMU     50.6   52.8        MMVet     66.6   68.7
    MMBench  83.5   86.1        MME-P   1682.6 1698.4
    TextVQA  83.1   85.2        MME-C    647.1  660.3
    SEED     77.5   79.4        GenEval   84     87
    RWQA     69.0   70.9

The adapters that the run writes are PEFT folders: merge one with `asg-jax convert --adapter=FOLDER`
to evaluate it with other tools.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from asg_jax.configs import bagel_7b
from asg_jax.methods import settings_for
from asg_jax.train.evolve.typed import as_config

# The flow of features, without guidance; how they become pixels is the model's own. The merger of
# the vision tower keeps its rank of 4.
METHOD = bagel_7b.METHOD | {
    "sampler": replace(bagel_7b.METHOD["sampler"], grid=(8, 8), steps=30, shift=1.0),
}
RUN = replace(bagel_7b.RUN, name="blip3o_8b", model="BLIP3o-Model-8B")


def get_config(method: str = "asg", devices: str = "v5e-16") -> ConfigDict:
    """The settings of a run of some method, on devices of `bagel_7b.MESHES`."""
    mesh = bagel_7b.mesh_for(devices)
    return as_config(replace(RUN, method=settings_for(method, METHOD), mesh=mesh))
