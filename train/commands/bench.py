"""Measure the library on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from asg_jax.errors import UserError
from asg_jax.train.benchmarks import attention, choosing, cycle, rewards, rollout, update

USAGE = "usage: asg-jax bench BENCHMARK [FLAGS]"
BENCHMARKS = {
    "rewards": rewards,
    "rollout": rollout,
    "attention": attention,
    "update": update,
    "cycle": cycle,
    "choosing": choosing,
}


def main(argv: Sequence[str]) -> int | None:
    """Runs the benchmark that the first word names."""
    name = argv[0] if argv else "--help"
    if name in ("--help", "-h"):
        print(f"{USAGE}\n\nbenchmarks:")
        for known, module in BENCHMARKS.items():
            print(f"  {known}  {str(module.__doc__).splitlines()[0]}")
        print("\n`asg-jax bench BENCHMARK --help` describes one benchmark.")
        return None
    if name not in BENCHMARKS:
        raise UserError(f"there is no benchmark '{name}'; known are {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name].main(argv[1:])
