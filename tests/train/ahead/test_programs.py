"""Compiling for absent devices: loops, collectives and memory, read from the program."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from asg_jax.errors import UserError
from asg_jax.train.ahead.chips import CHIPS, topology
from asg_jax.train.ahead.hlo import Program
from asg_jax.train.ahead.programs import compile_ahead
from asg_jax.train.ahead.tables import table, write_json
from asg_jax.train.mesh import make_mesh

LAYERS, ROWS, WIDTH = 5, 64, 256
PRODUCT = 2 * ROWS * WIDTH * WIDTH


def layers(x, kernels):
    return jax.lax.scan(lambda x, kernel: (jnp.tanh(x @ kernel), None), x, kernels)[0]


def test_a_loop_counts_as_often_as_it_runs():
    like = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    compiled = jax.jit(layers).lower(like(ROWS, WIDTH), like(LAYERS, WIDTH, WIDTH)).compile()
    cost = Program(compiled.as_text() or "").total
    assert cost.flops == LAYERS * PRODUCT
    assert not cost.open_loops
    kernels = 4 * LAYERS * WIDTH * WIDTH
    assert kernels < cost.read  # every layer's kernel once, not the whole stack in every round
    assert cost.read < 3 * kernels


def test_a_loop_that_ends_with_the_data_counts_as_often_as_it_may_run():
    """As the one that draws tokens: it ends when all texts have, at the latest after so many."""

    def drawn(x, kernel):
        more = lambda carry: (carry[0] < 7) & (carry[1].max() < 1e3)
        step = lambda carry: (carry[0] + 1, jnp.tanh(carry[1] @ kernel))
        return jax.lax.while_loop(more, step, (0, x))[1]

    like = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    compiled = jax.jit(drawn).lower(like(ROWS, WIDTH), like(WIDTH, WIDTH)).compile()
    cost = Program(compiled.as_text() or "").total
    assert cost.flops == 7 * PRODUCT and cost.open_loops


def test_a_convolution_counts_the_pixels_that_it_sees():
    image, kernel = jnp.zeros((2, 6, 6, 3)), jnp.zeros((3, 3, 3, 4))
    convolve = lambda x, k: jax.lax.conv_general_dilated(
        x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    text = jax.jit(convolve).lower(image, kernel).compile().as_text() or ""
    seen = (4 * 3 + 2 * 2) ** 2  # at the border a row of the kernel falls outside
    assert Program(text).total.flops == 2 * 2 * 4 * 3 * seen


TEXT = """HloModule m

%body (p: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %p = (s32[], bf16[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = bf16[8,4]{1,0} get-tuple-element(%p), index=1
  %whole = bf16[32,4]{1,0} all-gather(%x), dimensions={0}
  %near = bf16[8,4]{1,0:S(1)} slice(%whole), slice={[0:8], [0:4]}
  %out = bf16[8,4]{1,0} add(%near, %x)
  ROOT %t = (s32[], bf16[8,4]{1,0}) tuple(%i, %out)
}

%condition (p.1: (s32[], bf16[8,4])) -> pred[] {
  %p.1 = (s32[], bf16[8,4]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%p.1), index=0
  %n = s32[] constant(7)
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

ENTRY %main (a: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %a = (s32[], bf16[8,4]{1,0}) parameter(0)
  ROOT %w = (s32[], bf16[8,4]{1,0}) while(%a), condition=%condition, body=%body
}
"""


def test_collectives_and_memory_spaces_are_read():
    cost = Program(TEXT).total
    assert cost.counts == {"all-gather": 7} and cost.collectives == {"all-gather": 7 * 256}
    # A round gathers 64 bytes to 256, cuts 64 of them into near memory, reads x beside them, writes
    # 64, and compares two counters of 4 bytes.
    assert cost.read == 7 * (64 + 64 + 64 + 8)
    assert cost.written == 7 * (256 + 64 + 1)


STEPS = """HloModule m

%body (p: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %p = (s32[], bf16[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = bf16[8,4]{1,0} get-tuple-element(%p), index=1
  %send = (bf16[8,4]{1,0}, bf16[8,4]{1,0}, u32[], u32[]) collective-permute-start(%x)
  %got = bf16[8,4]{1,0} collective-permute-done(%send)
  %two = s32[] constant(2)
  %next = s32[] add(%i, %two)
  ROOT %t = (s32[], bf16[8,4]{1,0}) tuple(%next, %got)
}

%condition (p.1: (s32[], bf16[8,4])) -> pred[] {
  %p.1 = (s32[], bf16[8,4]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%p.1), index=0
  %n = s32[] constant(8)
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

ENTRY %main (a: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %a = (s32[], bf16[8,4]{1,0}) parameter(0)
  ROOT %w = (s32[], bf16[8,4]{1,0}) while(%a), condition=%condition, body=%body
}
"""


def test_a_loop_that_takes_two_steps_in_a_round_runs_half_as_often():
    cost = Program(STEPS).total
    assert cost.counts == {"collective-permute": 4}
    assert cost.collectives == {"collective-permute": 4 * 64}  # what arrives, without counters


def arguments(mesh, kernels=(LAYERS, WIDTH, WIDTH)):
    cut = lambda shape, *axes: jax.ShapeDtypeStruct(
        shape, jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec(*axes))
    )
    return cut((ROWS, WIDTH), "fsdp"), cut(kernels, None, "fsdp")


@pytest.mark.usefixtures("tpu_compiler")
def test_a_program_for_a_slice(tmp_path):
    chip, devices = topology("v5e:2x2")
    mesh = make_mesh(fsdp=4, devices=devices)
    report = compile_ahead("layers", jax.jit(layers), arguments(mesh), "v5e:2x2", chip, mesh)
    assert report.verdict == "fits" and report.devices == 4
    assert report.arguments == 2 * (ROWS * WIDTH + LAYERS * WIDTH * WIDTH) // 4
    assert report.flops == pytest.approx(LAYERS * PRODUCT / 4)
    assert report.collectives and sum(c.count for c in report.collectives.values()) >= LAYERS
    assert "fits" in table([report])
    write_json(tmp_path / "report.json", [report])
    (written,) = json.loads((tmp_path / "report.json").read_text())
    assert written["flops"] == report.flops and written["verdict"] == "fits"


@pytest.mark.usefixtures("tpu_compiler")
def test_what_does_not_fit_is_told():
    chip, devices = topology("v5e:1x1")
    mesh, square = make_mesh(devices=devices), 2**15
    place = NamedSharding(mesh, PartitionSpec())
    x = jax.ShapeDtypeStruct((16, square, square), jnp.bfloat16, sharding=place)
    report = compile_ahead("big", jax.jit(lambda x: x + 1), (x,), "v5e:1x1", chip, mesh)
    assert report.verdict == "does not fit"
    assert "RESOURCE_EXHAUSTED" in table([report])


@pytest.mark.parametrize("name", ["v9:2x2", "v5e:big", "h100x2"])
def test_an_unknown_topology_is_named(name):
    with pytest.raises(UserError, match=f"no topology '{name}'"):
        topology(name)


def test_chips_have_plausible_numbers():
    for chip in CHIPS.values():
        assert 2**33 < chip.memory < 2**38
        assert 80 < chip.flops / chip.bandwidth < 700  # operations that hide one byte
