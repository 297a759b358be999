"""The compiled loop that draws tokens moves little more than the weights and the cache."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from asg_jax.adapters import init
from asg_jax.backbone import Params, Prefix
from asg_jax.errors import UserError
from asg_jax.models.bagel.adapters import ROLES
from asg_jax.models.bagel.backbone import BagelBackbone
from asg_jax.models.bagel.config import BagelConfig
from asg_jax.rollout.text import TextSampler, sample_text
from asg_jax.train.ahead.chips import topology
from asg_jax.train.ahead.hlo import Program
from asg_jax.train.compiler import compiler_options
from asg_jax.train.mesh import make_mesh

LAYERS, VOCABULARY = 4, 32_000  # fewer layers' kernels would fit the chip's near memory
PROMPTS, SAMPLES, CONTEXT, TOKENS = 8, 8, 1024, 64


def language():
    sizes = BagelConfig().language  # all but the number of layers and of words is the 7B's
    return replace(sizes, layers=LAYERS, vocabulary=VOCABULARY)


def loop(name, platform):
    """The program of a rollout on one chip, and the body of its loop."""
    backbone = BagelBackbone(replace(BagelConfig(), language=language()).compute("bfloat16"))
    sizes, _, devices = language(), *topology(name)
    mesh = make_mesh(devices=devices)
    place = NamedSharding(mesh, PartitionSpec())

    def like(shape: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    base = backbone.abstract_base("bfloat16")
    adapter = jax.eval_shape(lambda: init(jax.random.key(0), base, ROLES["solver"]))
    params = jax.tree.map(lambda x: like(x.shape, x.dtype), Params(base, adapter))

    def prefix() -> Prefix:
        keys = jnp.zeros((LAYERS, PROMPTS, CONTEXT, sizes.kv_heads, sizes.head_width), "bfloat16")
        mask, position = jnp.ones((PROMPTS, CONTEXT), bool), jnp.zeros(PROMPTS, jnp.int32)
        return Prefix(keys, keys, mask, position, jnp.zeros((PROMPTS, sizes.width), "bfloat16"))

    context = jax.tree.map(lambda x: like(x.shape, x.dtype), jax.eval_shape(prefix))

    def rollout(params, prefix, seed):
        keys = jax.random.split(jax.random.key(seed), (PROMPTS, SAMPLES))
        nothing = jnp.zeros((PROMPTS, SAMPLES, 0), jnp.int32)
        sampler = TextSampler(jnp.ones((PROMPTS, SAMPLES)), TOKENS, (1,))
        mask = nothing.astype(bool)
        return sample_text(backbone, params, prefix, nothing, mask, keys, sampler).ids

    compiled = jax.jit(rollout, compiler_options=compiler_options(platform))
    with jax.set_mesh(mesh):
        text = compiled.lower(params, context, like((), jnp.int32)).compile().as_text()
    program = Program(text or "")
    bodies = [program.called(w)[-1] for w in program.loops() if program.trips(w) is None]
    return program, max(bodies, key=lambda body: program.cost(body).bytes)


def least():
    """Bytes of the base's weights that a token needs, and of the keys and values that it sees."""
    sizes = language()
    width, inner, head = sizes.width, sizes.inner, sizes.head_width
    kernels = width * head * (2 * sizes.heads + 2 * sizes.kv_heads) + 3 * width * inner
    rows = PROMPTS * (CONTEXT + SAMPLES * (TOKENS - 1))
    cache = 2 * rows * sizes.kv_heads * head
    return 2 * (LAYERS * (kernels + cache) + VOCABULARY * width)


@pytest.mark.slow
@pytest.mark.usefixtures("tpu_compiler")
def test_a_tpu_reads_every_weight_once_and_copies_none():
    program, body = loop("v5e:1x1", "tpu")
    assert program.cost(body).bytes < 1.15 * least()
    assert program.copied(body) < 2 * language().width ** 2  # the kernel of the queries


@pytest.mark.slow
def test_a_gpu_copies_no_weight():
    """Scores and float32 sums of adapted maps go through memory, which a TPU spares."""
    try:
        program, body = loop("h200", "gpu")
    except UserError as error:
        pytest.skip(str(error))
    assert program.cost(body).bytes < 1.3 * least()
    assert program.copied(body) < 2 * language().width ** 2
