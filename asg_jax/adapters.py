"""Low-rank adapters of a frozen base: which modules they cover, their start, merging."""

from __future__ import annotations

import difflib
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from asg_jax.backbone import Adapter, LoRA, PyTree
from asg_jax.errors import UserError
from asg_jax.ops.int8 import Int8


@dataclass(frozen=True)
class LoRASpec:
    """The modules that a pattern covers, and the size of their updates.

    Attributes:
      modules: regular expression; a module is covered if it matches the whole path.
      rank: inner size of the factors.
      alpha: the update is scaled by alpha / rank.
      fixed: a role's own rank and alpha do not replace these: the maps are small.
    """

    modules: str
    rank: int = 16
    alpha: float = 32.0
    fixed: bool = False


def linear_maps(base: PyTree) -> dict[str, Any]:
    """Kernels (in, out) or (layers, in, out) that an adapter can cover, by module path."""
    whole = lambda leaf: isinstance(leaf, Int8)
    kernels = {_path(keys): leaf for keys, leaf in jax.tree.leaves_with_path(base, is_leaf=whole)}
    return {
        path.removesuffix(".kernel"): leaf
        for path, leaf in kernels.items()
        if path.endswith(".kernel") and leaf.ndim in (2, 3)  # a convolution has four axes
    }


def init(key: Key[Array, ""], base: PyTree, specs: Sequence[LoRASpec]) -> Adapter:
    """An adapter that changes nothing yet: a ~ N(0, 1/in), b = 0, in float32.

    The numbers of a module depend on the key and its own path alone.

    Args:
      key: gives this adapter its first factors; roles need different ones (`init_roles`).
      base: parameters, or their shapes.
      specs: where several patterns match a module, the last one counts.

    Raises:
      UserError: a pattern matches no linear map of the model.
    """
    maps = linear_maps(base)
    chosen = {path: spec for spec in specs for path in _covered(spec, maps)}
    return {
        path: _factors(_fold(key, path), maps[path].shape, spec) for path, spec in chosen.items()
    }


def init_roles(
    key: Key[Array, ""], base: PyTree, roles: Mapping[str, Sequence[LoRASpec]]
) -> dict[str, Adapter]:
    """One adapter for every role, drawn independently; see `init`."""
    return {role: init(_fold(key, role), base, specs) for role, specs in roles.items()}


def dropped(adapter: Adapter, key: Key[Array, ""], rate: float) -> Adapter:
    """An adapter whose updates ignore a share of their maps' inputs, drawn per map and layer.

    (Dropout on the inputs of LoRA, arXiv 2106.09685, with one draw for all tokens.)

    Args:
      adapter: factors.
      key: gives the draw; that of a map depends on its path too.
      rate: share that is ignored, in [0, 1); what is left is scaled up.
    """
    if rate == 0:
        return adapter

    def drop(path: str, lora: LoRA) -> LoRA:
        kept = jax.random.bernoulli(_fold(key, path), 1 - rate, lora.a.shape[:-1])
        return replace(lora, a=lora.a * kept[..., None] / (1 - rate))

    return {path: drop(path, lora) for path, lora in adapter.items()}


def parameter_count(adapter: Adapter) -> int:
    """How many numbers an adapter (or its shapes) holds."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(adapter))


def merge(base: PyTree, adapter: Adapter) -> PyTree:
    """Base parameters that contain the adapter's update, in their own dtypes.

    Raises:
      UserError: the adapter covers a module that the model lacks.
    """
    maps = linear_maps(base)
    for path in adapter:
        if path not in maps:
            raise UserError(
                f"the adapter covers the module '{path}', which the model lacks; "
                f"take the base that it was trained on (nearest: {_nearest(path, maps)})."
            )
    updates = {f"{path}.kernel": lora for path, lora in adapter.items()}

    def update(keys: Sequence, leaf: Array) -> Array:
        lora = updates.get(_path(keys))
        return leaf if lora is None else _merged(leaf, lora)

    return jax.tree.map_with_path(update, base)


def _merged(
    kernel: Float[Array, "*layers inputs outputs"], lora: LoRA
) -> Float[Array, "*layers inputs outputs"]:
    def add(parts: tuple[Array, Array, Array]) -> Array:
        kernel, a, b = parts
        product = jnp.matmul(a, b, precision="highest", preferred_element_type=jnp.float32)
        return (kernel.astype(jnp.float32) + lora.scale * product).astype(kernel.dtype)

    parts = (kernel, lora.a, lora.b)
    # One layer at a time: a whole stack in float32 would be larger than the base itself.
    return add(parts) if kernel.ndim == 2 else jax.lax.map(add, parts)


def _factors(key: Key[Array, ""], kernel: tuple[int, ...], spec: LoRASpec) -> LoRA:
    *layers, inputs, outputs = kernel
    a = jax.random.normal(key, (*layers, inputs, spec.rank), jnp.float32) / math.sqrt(inputs)
    return LoRA(a, jnp.zeros((*layers, spec.rank, outputs), jnp.float32), spec.alpha / spec.rank)


def _covered(spec: LoRASpec, maps: Iterable[str]) -> list[str]:
    covered = [path for path in maps if re.fullmatch(spec.modules, path)]
    if not covered:
        raise UserError(
            f"the adapter pattern '{spec.modules}' matches no linear map of the model; "
            f"correct it (nearest: {_nearest(spec.modules, maps)})."
        )
    return covered


def _nearest(name: str, maps: Iterable[str]) -> str:
    return ", ".join(difflib.get_close_matches(name.replace("\\", ""), list(maps), cutoff=0))


def _fold(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    # A checksum, because Python's own hash of a string differs from process to process.
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def _path(keys: Sequence) -> str:
    return ".".join(str(key.key) for key in keys)
