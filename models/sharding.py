"""Sharding of parameters by path: one table of rules per backbone, one way to read it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from asg_jax.backbone import PyTree
from asg_jax.models.checkpoint import paths

BATCH_AXES = ("data", "fsdp")  # mesh axes that share the examples of a batch

# Pattern that matches the whole path of a parameter; mesh axes (joined by a comma) or None for each
# of the parameter's last axes.
Rules = Sequence[tuple[str, tuple[str | None, ...]]]


def partition(path: str, shape: Sequence[int], mesh: Mesh, rules: Rules) -> PartitionSpec:
    """Mesh axes of a parameter: those of the first rule that matches, replicated without one.

    A rule counts from the last axis, so that it serves a layer and a stack of layers alike. An
    axis that the mesh does not divide stays whole.
    """
    for pattern, axes in rules:
        if re.fullmatch(pattern, path):
            whole = (None,) * (len(shape) - len(axes))
            pairs = zip(shape, (*whole, *axes), strict=True)
            return PartitionSpec(*[_fitting(size, axes, mesh) for size, axes in pairs])
    return PartitionSpec()


def _fitting(size: int, axes: str | None, mesh: Mesh) -> tuple[str, ...] | None:
    names = tuple(axes.split(",")) if axes else ()
    return names if names and size % math.prod(mesh.shape[n] for n in names) == 0 else None


def shardings(abstract: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """The sharding of every parameter, as a tree of `NamedSharding`."""
    flat = [
        NamedSharding(mesh, partition(p, leaf.shape, mesh, rules)) for p, leaf in paths(abstract)
    ]
    return jax.tree.unflatten(jax.tree.structure(abstract), flat)
