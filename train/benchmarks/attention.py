"""Attention at the shapes of the 7B, beside what a plain matmul reaches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from asg_jax.models.layers.attention import CAUSAL, Block, attention
from asg_jax.models.places import new_file, write_file
from asg_jax.train.benchmarks.forms import medians
from asg_jax.train.flags import number, parse

USAGE = "usage: asg-jax bench attention [--scale=N] [--out=FILE.json]"
HEADS, KV_HEADS, WIDTH = 28, 4, 128
# Sequences, queries of each, keys of each, and whether a query sees those before it alone.
SHAPES = {
    "prefill": (8, 2048, 2048, True),
    "drawing step, 1024 px": (4, 4096, 4096, False),
    "drawing step, 448 px": (16, 784, 1024, False),
}
SIDE = 8192  # of the matmul's matrices
CALLS = 10  # in a row for each timing, so that starting one takes no time of its own


def define() -> flags.FlagValues:
    """The benchmark's flags."""
    f = flags.FlagValues()
    number(f, "scale", 1, "Divides the lengths: 1 is the 7B's.", least=1, most=64)
    number(f, "repeat", 5, "Timings of everything; medians are printed.", least=1)
    flags.DEFINE_string("out", None, "JSON file for all numbers.", f)
    return f


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark."""
    f = define()
    if parse(f, argv, USAGE) is None:
        return
    out = new_file(f.out) if f.out else None
    report = run(f.scale, f.repeat)
    print("\n".join(lines(report)))
    if out is not None:
        write_file(out, (json.dumps(report, indent=1) + "\n").encode())


def run(scale: int, repeat: int) -> dict[str, Any]:
    """Seconds and operations of every shape, and of a matmul.

    Args:
      scale: divides all lengths.
      repeat: timings of everything.
    """
    tasks = {name: _task(*shape, scale) for name, shape in SHAPES.items()}
    side = SIDE // scale
    square = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)
    multiply = jax.jit(lambda x: x @ x)
    tasks["matmul"] = (lambda: multiply(square)), 2 * side**3
    in_a_row = lambda call: lambda: [call() for _ in range(CALLS)]
    calls = {name: in_a_row(call) for name, (call, _) in tasks.items()}
    jax.block_until_ready([call() for call in calls.values()])
    seconds = medians(calls, repeat)
    numbers = lambda name, flops: {"seconds": seconds[name] / CALLS, "flops": flops}
    return {
        "benchmark": "attention",
        "scale": scale,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "tasks": {name: numbers(name, flops) for name, (_, flops) in tasks.items()},
    }


def _task(
    batch: int, queries: int, keys: int, causal: bool, scale: int
) -> tuple[Callable[[], Any], int]:
    """A call, and the operations that it needs."""
    queries, keys = queries // scale, keys // scale
    normal = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape, jnp.bfloat16)
    q = normal(0, batch, 1, queries, HEADS, WIDTH)
    k, v = (normal(seed, batch, keys, KV_HEADS, WIDTH) for seed in (1, 2))
    mask = CAUSAL if causal else None
    attend = jax.jit(lambda q, k, v: attention(q, [Block(k, v, mask)]))
    pairs = queries * keys // 2 if causal else queries * keys
    return (lambda: attend(q, k, v)), 4 * batch * pairs * HEADS * WIDTH


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The lines that the benchmark prints."""
    yield f"attention on {report['device']}, jax {report['jax']}"
    for name, task in report["tasks"].items():
        rate = task["flops"] / task["seconds"] / 1e12
        yield f"  {name:<22} {task['seconds'] * 1e3:>10.4g} ms  {rate:.4g} TFLOP/s"
