"""What a step must compute and read, counted in its program before anything is compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Jaxpr, jaxprs_in_params
from jax.interpreters import partial_eval

from asg_jax.backbone import PyTree


class StepCost(NamedTuple):
    """Operations of the matmuls, and the bytes of the inputs that the program depends on."""

    flops: int
    parameter_bytes: int
    context_bytes: int


def cost(step: Callable[[PyTree, PyTree], PyTree], params: PyTree, context: PyTree) -> StepCost:
    """The cost of `step(params, context)`, from arrays or their shapes.

    Args:
      step: returns what is to be computed, and nothing else.
      params: each array that is used counts once; not a table of which only some rows are picked.
      context: cached keys and values, and the inputs of the step.
    """
    closed = jax.make_jaxpr(step)(params, context)
    jaxpr, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.out_avals))
    left = iter(jaxpr.invars)
    read = [_bytes(jaxpr, next(left)) if keep else 0 for keep in used]
    split = len(jax.tree.leaves(params))
    return StepCost(matmul_flops(jaxpr), sum(read[:split]), sum(read[split:]))


def matmul_flops(jaxpr: Jaxpr) -> int:
    """Multiplications and additions of all matmuls, those in a scan once for each of its steps."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = _aval(equation.invars[0]).shape
            total += 2 * _aval(equation.outvars[0]).size * math.prod(shape[n] for n in contracted)
        inner = sum(map(matmul_flops, jaxprs_in_params(equation.params)))
        total += inner * (equation.params["length"] if equation.primitive.name == "scan" else 1)
    return total


def _bytes(jaxpr: Jaxpr, variable: Any) -> int:
    used_by = {e.primitive.name for e in jaxpr.eqns if any(v is variable for v in e.invars)}
    return 0 if used_by == {"gather"} else _aval(variable).size * _aval(variable).dtype.itemsize


def _aval(variable: Any) -> Any:
    return variable.aval
