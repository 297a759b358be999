"""Self-evolves VARGPT-v1.1 on any folder of pictures, as the paper does (arXiv 2606.27376).

Trains three LoRA adapters (Proposer, Solver, Generator) on the frozen model, for 16 devices:

asg-jax evolve --config=vargpt_v11 --workdir=runs/vargpt_v11 \
    --config.model=VARGPT-v1.1 --config.data.folder=PICTURES

The paper's pictures: 10,000 of COCO, SA-1B, TextVQA, GQA and LAION-COCO, without annotations. What
it reports for VARGPT-v1.1, base and evolved (not reproduced here: that takes weights and
accelerators):

    MMMU     48.6   51.6        MMVet     51.9   54.0
    MMBench  81.0   83.7        MME-P   1678.3 1695.7
    TextVQA  82.0   84.8        MME-C    592.9  606.4
    SEED     76.1   79.2        GenEval   53     56
    RWQA     67.5   71.1

The adapters that the run writes are PEFT folders: merge one with `asg-jax convert --adapter=FOLDER`
to evaluate it with other tools.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from asg_jax.configs import bagel_7b
from asg_jax.methods import settings_for
from asg_jax.objectives.drawings import BitsGRPO
from asg_jax.train.evolve.typed import as_config

# 512 pixels, ten scales; bits are sampled as they are, without guidance.
METHOD = bagel_7b.METHOD | {
    "generator": replace(bagel_7b.METHOD["generator"], objective=BitsGRPO()),
    "sampler": replace(bagel_7b.METHOD["sampler"], grid=(32, 32)),
}
RUN = replace(bagel_7b.RUN, name="vargpt_v11", model="VARGPT-v1.1")


def get_config(method: str = "asg", devices: str = "v5e-16") -> ConfigDict:
    """The settings of a run of some method, on devices of `bagel_7b.MESHES`."""
    mesh = bagel_7b.mesh_for(devices)
    return as_config(replace(RUN, method=settings_for(method, METHOD), mesh=mesh))
