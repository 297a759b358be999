"""Fused attention compiled for accelerators that are not there, at the widths of the 7B."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from asg_jax.errors import UserError
from asg_jax.models.layers.attention import CAUSAL, Block, attention
from asg_jax.train.ahead.chips import topology
from asg_jax.train.mesh import BATCH, make_mesh

PROMPTS, SAMPLES, HEADS, KV_HEADS, WIDTH = 4, 2, 28, 4, 128


def compiled(name, length, context, own_mask, width=WIDTH, gradient=False):
    """The program of attention after a shared prefix, and of its gradient."""
    mesh = make_mesh(devices=topology(name)[1])
    place = NamedSharding(mesh, BATCH)
    like = lambda *shape, dtype=jnp.bfloat16: jax.ShapeDtypeStruct(shape, dtype, sharding=place)
    own, prefix = (PROMPTS, SAMPLES, length), (PROMPTS, context)
    queries = like(*own, HEADS, width)
    pairs = [(like(*rows, KV_HEADS, width),) * 2 for rows in (own, prefix)]
    mask = like(*own, length, dtype=bool) if own_mask == "array" else None
    masks = [mask, like(PROMPTS, 1, 1, context, dtype=bool)]

    def attend(queries, pairs, masks):
        blocks = [Block(k, v, m) for (k, v), m in zip(pairs, masks, strict=True)]
        if own_mask == CAUSAL:
            blocks[0] = blocks[0]._replace(mask=CAUSAL)
        return attention(queries, blocks)

    def loss(queries, pairs, masks):
        return attend(queries, pairs, masks).astype(jnp.float32).sum()

    function = jax.grad(loss, (0, 1)) if gradient else attend
    with jax.set_mesh(mesh):
        program = jax.jit(function).lower(queries, pairs, masks).compile()
    return program.as_text() or "", program.memory_analysis()


CASES = [
    (256, 384, "array", 128),
    (786, 256, None, 128),
    (130, 131, "array", 72),
    (256, 384, CAUSAL, 128),
]


@pytest.mark.usefixtures("tpu_compiler")
@pytest.mark.parametrize("case", CASES)
def test_tpus_run_splash_attention(case):
    """One kernel for each block forwards, and three where gradients are asked for."""
    assert compiled("v5e:2x2", *case)[0].count('"tpu_custom_call"') == 2
    assert compiled("v5e:2x2", *case, gradient=True)[0].count('"tpu_custom_call"') == 6


@pytest.mark.usefixtures("tpu_compiler")
def test_on_a_tpu_scores_stay_on_the_chip():
    length, context = 1024, 2048
    memory = compiled("v5e:2x2", length, context, own_mask=None)[1]
    scores = 4 * HEADS * SAMPLES * length * (context + length)
    assert memory is not None and memory.temp_size_in_bytes < scores / 4


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("card", ["h100", "h200"])
def test_gpus_run_cudnn(card, case):
    try:
        topology(card)
    except UserError as error:
        pytest.skip(str(error))
    assert compiled(card, *case)[0].count('custom_call_target="__cudnn$fmha') == 2
    assert compiled(card, *case, gradient=True)[0].count('custom_call_target="__cudnn$fmha') == 4
