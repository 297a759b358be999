"""Full-size rollouts of BAGEL, compiled ahead of time for a TPU pod; no TPU is needed.

The 7B in bfloat16, its parameters cut over the 16 chips of a v5e slice (15.75 GiB each).
"""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.topologies import get_topology_desc
from jax.sharding import NamedSharding

from asg_jax.backbone import Params, Prompt, Prompts, Sampler
from asg_jax.models.bagel.backbone import BagelBackbone
from asg_jax.models.bagel.config import BagelConfig
from asg_jax.models.bagel.sharding import RULES
from asg_jax.models.sharding import shardings
from asg_jax.rollout.image import sample_images
from asg_jax.rollout.text import TextSampler, sample_text
from asg_jax.train.mesh import BATCH, make_mesh

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tpu_compiler")]

GIB = 2**30
BACKBONE = BagelBackbone(BagelConfig().compute("bfloat16"))
PROMPTS = 16
BYTES = {"bf16": 2, "f32": 4, "s32": 4, "u32": 4, "pred": 1}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=16, devices=get_topology_desc("v5e:4x4", "tpu").devices)


def compile_for(mesh, function, batch):
    """Compiles `function(params, batch)` with cut parameters and a cut batch."""
    base = BACKBONE.abstract_base("bfloat16")
    struct = lambda x, to: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=to)
    params = Params(jax.tree.map(struct, base, shardings(base, mesh, RULES)))
    examples = NamedSharding(mesh, BATCH)
    batch = jax.tree.map(lambda x: struct(x, examples), jax.eval_shape(batch))
    with jax.set_mesh(mesh):
        return jax.jit(function).lower(params, batch).compile()


def prompt(rows):
    ints = jnp.zeros((PROMPTS, rows), int)
    return Prompt(ints, ints - 1, ints[..., None], ints, ints.astype(bool))


def keys(samples):
    return jax.random.split(jax.random.key(0), (PROMPTS, samples))


def temporary_gib(compiled):
    """Temporaries of one chip."""
    memory = compiled.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes / GIB


def gathered(compiled):
    """Sizes in bytes of what each all-gather of the program returns."""
    found = re.findall(r"= \(?(\w+)\[([\d,]*)\]\S* all-gather", compiled.as_text())
    return [BYTES[kind] * math.prod(map(int, shape.split(","))) for kind, shape in found]


def test_decoding_leaves_the_weights_where_they_lie(mesh):
    """128 answers on prompts of 1024 tokens: only activations travel while tokens are drawn."""

    def rollout(params, batch):
        prefix = BACKBONE.prefill(params, batch["prompt"])
        nothing = jnp.zeros((PROMPTS, 8, 0), int)
        sampler = TextSampler(jnp.ones((PROMPTS, 8)), 64, (151645,))
        mask = nothing.astype(bool)
        return sample_text(BACKBONE, params, prefix, nothing, mask, batch["keys"], sampler).ids

    compiled = compile_for(mesh, rollout, lambda: {"prompt": prompt(1024), "keys": keys(8)})
    assert temporary_gib(compiled) < 0.6
    # The prefill gathers its weights in pieces, by permutes.
    assert max(gathered(compiled)) < 20e6, "a matrix of the layers or the unembedding is gathered"


def test_large_pictures_fit(mesh):
    """32 pictures of 1024 x 1024 with guidance: the batch stays cut, layer by layer."""

    def rollout(params, batch):
        condition = BACKBONE.condition(params, Prompts(batch["prompt"]), batch["keys"][:, 0])
        sampler = Sampler(grid=(64, 64), steps=49)
        state = sample_images(BACKBONE, params, condition, batch["keys"], sampler)
        return BACKBONE.preview(params, condition, state, sampler).values

    compiled = compile_for(mesh, rollout, lambda: {"prompt": prompt(48), "keys": keys(2)})
    assert temporary_gib(compiled) < 5
