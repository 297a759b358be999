"""Muon for matrices, Adam for everything else, with a warm-up and a linear decay."""

from __future__ import annotations

import re

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from asg_jax.backbone import PyTree


def optimizer(peak: float, steps: int, warmup: int) -> optax.GradientTransformation:
    """The update rule; steps of matrices are scaled to the size that Adam's would have.

    (Muon is scalable for LLM training, arXiv 2502.16982.)
    """
    rise = optax.linear_schedule(0, peak, warmup)
    fall = optax.linear_schedule(peak, 0, steps - warmup)
    rate = optax.join_schedules([rise, fall], [warmup])
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        muon(rate, consistent_rms=0.2, muon_weight_dimension_numbers=matrices, adam_b2=0.99),
    )


def two_rates(
    usual: optax.GradientTransformation, special: optax.GradientTransformation, pattern: str
) -> optax.GradientTransformation:
    """The special update rule for parameters whose dotted path the pattern finds."""
    dotted = lambda path: ".".join(str(entry.key) for entry in path)
    label = lambda path, _: "special" if re.search(pattern, dotted(path)) else "usual"
    labels = lambda params: jax.tree.map_with_path(label, params)
    return optax.partition({"usual": usual, "special": special}, labels)


def matrices(params: PyTree) -> PyTree:
    """Which axes of a kernel are inputs and outputs; None for tables, norms and biases."""
    return jax.tree.map_with_path(_matrix, params)


def _matrix(path: tuple, leaf: jax.Array) -> MuonDimensionNumbers | None:
    if path[-1].key != "kernel":
        return None
    if leaf.ndim == 4:  # a convolution: (height, width, in, out)
        return MuonDimensionNumbers((0, 1, 2), 3)
    return MuonDimensionNumbers((leaf.ndim - 2,), leaf.ndim - 1)  # stacked layers stand in front
