"""Two forms of one computation side by side: the engine's, and the plain one of a simple port."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from asg_jax.backbone import Backbone, Params, PyTree, Request
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.benchmarks.cost import StepCost

Call = Callable[[], Any]


class Task(NamedTuple):
    """The arguments of a rollout."""

    backbone: Backbone
    params: Params
    request: Request
    keys: jax.Array
    sampler: Any


@dataclass(frozen=True)
class Forms:
    """A rollout in two forms.

    Attributes:
      engine: the whole rollout as one program.
      plain: the same, one sample at a time.
      differences: largest difference of their results, by name.
      parts: the engine's parts, each a call of its own.
      step_seconds: what the step that the engine repeats takes, from the seconds of the parts.
      step_cost: what the same step costs.
      unit: what the rollout makes.
      units: how many of them a task makes.
    """

    engine: Callable[..., PyTree]
    plain: Callable[[Task], PyTree]
    differences: Callable[[PyTree, PyTree], dict[str, float]]
    parts: Callable[[Task], dict[str, Call]]
    step_seconds: Callable[[Task, Mapping[str, float]], float]
    step_cost: Callable[[Task], StepCost]
    unit: str
    units: Callable[[Task], int]


def measure(
    forms: Forms, task: Task, others: Sequence[Task], repeat: int, skip_plain: bool
) -> dict[str, Any]:
    """All numbers of a rollout.

    Args:
      forms: engine and plain form of the rollout.
      task: what is timed.
      others: tasks of other contents, which must not compile anything.
      repeat: how often everything is timed; medians count.
      skip_plain: times the engine alone.
    """
    with Compilations() as compiled:
        result, first = timed(lambda: forms.engine(*task))
    with Compilations() as again:
        later = [timed(lambda other=other: forms.engine(*other))[1] for other in others]
    whole: dict[str, Call] = {"engine": lambda: forms.engine(*task)}
    report: dict[str, Any] = {}
    if not skip_plain:
        whole["plain"] = lambda: forms.plain(task)
        report["differences"] = forms.differences(result, forms.plain(task))
    parts = forms.parts(task)
    jax.block_until_ready([call() for call in parts.values()])
    seconds = medians(whole | parts, repeat)
    for name in whole:
        rate = forms.units(task) / seconds[name]
        report[name] = {"seconds": seconds[name], f"{forms.unit}_per_second": rate}
    if not skip_plain:
        report["ratio"] = seconds["plain"] / seconds["engine"]
    report["compilation"] = {
        "first_call_seconds": first,
        "compile_seconds": first - min(later),  # of the same moments, for busy machines
        "backend_seconds": compiled.seconds,
        "programs": compiled.count,
        "cached": compiled.cached,
        "recompilations": again.count,
    }
    report["parts"] = {name: seconds[name] for name in parts}
    report["step"] = _reached(forms.step_cost(task), forms.step_seconds(task, seconds))
    return report


def _reached(cost: StepCost, seconds: float) -> dict[str, float]:
    """The cost of a step, and the rates that its time makes of it."""
    read = cost.parameter_bytes + cost.context_bytes
    return cost._asdict() | {
        "seconds": seconds,
        "gflops_per_second": cost.flops / seconds / 1e9,
        "gigabytes_per_second": read / seconds / 1e9,
    }


def timed(call: Call) -> tuple[Any, float]:
    """A call's result once it is there, and the seconds until then."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - start


def medians(calls: Mapping[str, Call], repeat: int) -> dict[str, float]:
    """Median seconds of calls that ran before, in turns, so that a busy machine hits all alike."""
    runs = [{name: timed(call)[1] for name, call in calls.items()} for _ in range(repeat)]
    return {name: statistics.median(run[name] for run in runs) for name in calls}


def one_by_one(task: Task) -> Iterator[Task]:
    """A task for every sample, those of the first prompt first."""
    for b, g in np.ndindex(*task.keys.shape):
        row, place = slice(b, b + 1), (slice(b, b + 1), slice(g, g + 1))
        own = lambda x, place=place: x[place] if isinstance(x, np.ndarray) else x
        yield task._replace(
            request=jax.tree.map(lambda x, row=row: x[row], task.request),
            keys=task.keys[place],
            sampler=jax.tree.map(own, task.sampler),  # settings are for all, or for each sample
        )
