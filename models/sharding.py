"""Sharding of parameters by path: one table of rules per backbone, one way to read it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

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
    return _spec(shape, _axes(path, rules), mesh)


def _axes(path: str, rules: Rules) -> tuple[str | None, ...]:
    return next((axes for pattern, axes in rules if re.fullmatch(pattern, path)), ())


def _spec(shape: Sequence[int], axes: tuple[str | None, ...], mesh: Mesh) -> PartitionSpec:
    if not axes:
        return PartitionSpec()
    pairs = zip(shape, ((None,) * (len(shape) - len(axes)) + axes), strict=True)
    return PartitionSpec(*[_fitting(size, names, mesh) for size, names in pairs])


def _fitting(size: int, axes: str | None, mesh: Mesh) -> tuple[str, ...] | None:
    names = tuple(axes.split(",")) if axes else ()
    return names if names and size % math.prod(mesh.shape[n] for n in names) == 0 else None


def shardings(abstract: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """The sharding of every parameter, as a tree of `NamedSharding`."""
    flat = [
        NamedSharding(mesh, partition(p, leaf.shape, mesh, rules)) for p, leaf in paths(abstract)
    ]
    return jax.tree.unflatten(jax.tree.structure(abstract), flat)


def state_shardings(state: PyTree, mesh: Mesh, rules: Rules) -> PyTree:
    """The shardings of what learning changes, as a tree of `NamedSharding`.

    Wherever it holds adapters (their averages, an optimizer's moments), factor `a` is cut like the
    inputs of its kernel and `b` like the outputs, and over `fsdp` in any case: of eight arrays for
    each kernel, those that are whole on every device would soon outweigh a large model's share.
    Everything else is replicated.
    """
    place = lambda keys, leaf: NamedSharding(mesh, _factor(keys, leaf.shape, mesh, rules))
    return jax.tree.map_with_path(place, state)


def _factor(keys: tuple[Any, ...], shape: Sequence[int], mesh: Mesh, rules: Rules) -> PartitionSpec:
    *_, module, factor = (None, None, *(getattr(k, "key", getattr(k, "name", None)) for k in keys))
    axes = _axes(f"{module}.kernel", rules)
    if factor not in ("a", "b") or not axes:
        return PartitionSpec()
    own = axes[0] if factor == "a" else axes[1]
    names = own if own and "fsdp" in own else ",".join(filter(None, [own, "fsdp"]))
    cuts = (_spec(shape, (n, None) if factor == "a" else (None, n), mesh) for n in (names, own))
    return next((cut for cut in cuts if any(cut)), PartitionSpec())
