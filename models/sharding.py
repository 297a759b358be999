"""Sharding of parameters by path: one table of rules per backbone, one way to read it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from asg_jax.backbone import PyTree
from asg_jax.models.checkpoint import paths

# (pattern that matches the whole path of a parameter, mesh axis or None for each of its axes)
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
            fits = [axis if axis and size % mesh.shape[axis] == 0 else None for size, axis in pairs]
            return PartitionSpec(*fits)
    return PartitionSpec()


def shardings(abstract: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """The sharding of every parameter, as a tree of `NamedSharding`."""
    flat = [
        NamedSharding(mesh, partition(p, leaf.shape, mesh, rules)) for p, leaf in paths(abstract)
    ]
    return jax.tree.unflatten(jax.tree.structure(abstract), flat)
