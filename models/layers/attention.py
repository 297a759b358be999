"""Attention with grouped heads over several blocks of keys in one softmax."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float

from asg_jax.models.layers.fused_attention import fused_attention
from asg_jax.models.layers.stack import kept

QUERY_BLOCK = 512  # the most queries of a sample whose scores exist at a time
SCORE_BYTES = 2**28  # the most float32 scores of all samples together, on one device
FUSED = {"gpu": "cudnn", "tpu": "splash"}  # the kernel of 16-bit attention on a platform

# The kernel of every call traced inside `with attention_kernel(NAME):`, instead of the one that
# suits platform and dtype: "xla", "cudnn" or "splash" (interpreted, and slow, where no TPU is).
attention_kernel = jax.make_user_context(default_value=None)


Causal = Literal["causal"]
CAUSAL: Causal = "causal"


class Block(NamedTuple):
    """Keys and values that queries may see: one set per prompt (no G axis) or per sample.

    `mask` broadcasts to (B, G, T, S); None shows every key to every query. `CAUSAL` is for the keys
    of the queries' own rows: a query sees those up to its own, and fused kernels skip the others.
    """

    keys: Float[Array, "B *G S heads width"]
    values: Float[Array, "B *G S heads width"]
    mask: Bool[Array, "#B #G #T S"] | Causal | None = None


def attention(
    queries: Float[Array, "B G T heads width"], blocks: list[Block]
) -> Float[Array, "B G T heads width"]:
    """Softmax attention over all blocks together, scale 1 / sqrt(width), float32 softmax.

    Keys shared by the G samples of a prompt are read once, never repeated. The kernel is chosen
    when the program is traced: a fused one for 16-bit numbers on GPUs and TPUs, else XLA's, which
    takes many queries block by block and recomputes them in the backward pass. What a query that
    sees no key at all (padding) gets is finite and otherwise undefined.
    """
    kernel = attention_kernel.value or _suitable(queries)
    if kernel == "xla":
        return kept(_blockwise(queries, [_spelled_out(block) for block in blocks]))
    pairs = [(block.keys, block.values) for block in blocks]
    causal = tuple(isinstance(block.mask, str) for block in blocks)
    masks = [None if isinstance(block.mask, str) else block.mask for block in blocks]
    return fused_attention(kernel, causal, queries, pairs, masks)


class _Spelled(NamedTuple):
    """A block whose mask, if any, is an array."""

    keys: Array
    values: Array
    mask: Array | None


def _spelled_out(block: Block) -> _Spelled:
    keys, values, mask = block
    if isinstance(mask, str):
        mask = jnp.tril(jnp.ones((keys.shape[-3],) * 2, bool))[None, None]
    return _Spelled(keys, values, mask)


def load_kernels() -> None:
    """Imports the TPU's kernels where they will be called, which takes half a second.

    To be called before anything is traced: the import changes what JAX knows a trace by, so that
    whatever was traced before is traced, and compiled, once more.
    """
    if jax.default_backend() == "tpu":
        importlib.import_module("asg_jax.models.layers.splash_attention")


def platform() -> str:
    """The platform that the traced program is for: that of the mesh, if `jax.set_mesh` set one."""
    device: Any = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device is not None else jax.default_backend()


def _suitable(queries: Array) -> str:
    if queries.dtype == jnp.float32 or queries.shape[2] == 1:  # decoding is bound by memory
        return "xla"
    return FUSED.get(platform(), "xla")


def _blockwise(queries: Array, blocks: list[_Spelled]) -> Array:
    batch, samples, length, heads, _ = queries.shape
    mesh = jax.sharding.get_abstract_mesh()
    devices = math.prod(mesh.shape[axis] for axis in mesh.auto_axes)  # they share the scores
    keys = sum(block.keys.shape[-3] for block in blocks)
    rows = max(1, devices * SCORE_BYTES // (4 * batch * heads * keys))
    time = min(length, QUERY_BLOCK, rows)
    group = min(samples, max(1, rows // time))
    attend = _attend
    if time < length or group < samples:
        attend = jax.checkpoint(_attend)
    if time < length:
        attend = partial(_chunked, attend, 2, time)
    if group < samples:
        attend = partial(_chunked, attend, 1, group)
    return attend(queries, blocks)


def _chunked(
    attend: Callable[[Array, list[_Spelled]], Array],
    axis: int,
    size: int,
    queries: Array,
    blocks: list[_Spelled],
) -> Array:
    """Attends for `size` samples (axis 1) or `size` queries of each sample (axis 2) at a time."""
    length = queries.shape[axis]

    def split(x: Array) -> Array:
        padding = [(0, -length % size * (a == axis)) for a in range(x.ndim)]
        parts = jnp.pad(x, padding).reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])
        return jnp.moveaxis(parts, axis, 0)

    def varying(block: _Spelled) -> tuple[Array | None, ...]:  # from chunk to chunk
        keys, values, mask = block
        cut = axis == 1 and keys.ndim == 5
        if mask is not None:
            mask = split(mask) if mask.shape[axis] == length else None
        return (split(keys), split(values), mask) if cut else (None, None, mask)

    def chunk(inputs: Any) -> Array:
        queries, varying = inputs
        choose = lambda part, whole: whole if part is None else part
        pairs = zip(varying, blocks, strict=True)
        return attend(queries, [_Spelled(*map(choose, parts, block)) for parts, block in pairs])

    out = jax.lax.map(chunk, (split(queries), [varying(block) for block in blocks]))
    out = jnp.moveaxis(out, 0, axis)
    out = out.reshape(*out.shape[:axis], -1, *out.shape[axis + 2 :])
    return jax.lax.slice_in_dim(out, 0, length, axis=axis)


def _attend(queries: Array, blocks: list[_Spelled]) -> Array:
    heads = blocks[0].keys.shape[-2]
    queries = rearrange(queries, "b g t (k r) d -> b g t k r d", k=heads)
    weights = jax.nn.softmax(jnp.concatenate([_scores(queries, b) for b in blocks], -1), axis=-1)
    weights = weights.astype(queries.dtype)
    ends = np.cumsum([block.keys.shape[-3] for block in blocks])
    out = jnp.zeros((), jnp.float32)
    for part, block in zip(jnp.split(weights, ends[:-1], axis=-1), blocks, strict=True):
        own = "bkrgts,bgskd->bgtkrd" if block.values.ndim == 5 else "bkrgts,bskd->bgtkrd"
        out = out + jnp.einsum(own, part, block.values, preferred_element_type=jnp.float32)
    return rearrange(out.astype(queries.dtype), "b g t k r d -> b g t (k r) d")


def _scores(queries: Array, block: _Spelled) -> Float[Array, "B heads repeat G T S"]:
    own = "bgtkrd,bgskd->bkrgts" if block.keys.ndim == 5 else "bgtkrd,bskd->bkrgts"
    scores = jnp.einsum(own, queries, block.keys, preferred_element_type=jnp.float32)
    scores = scores * queries.shape[-1] ** -0.5
    if block.mask is None:
        return scores
    # Finite, so that a query that sees nothing (padding) stays finite.
    return jnp.where(block.mask[:, None, None], scores, -1e30)
