"""One block of attention through JAX's splash attention, for TPUs (interpreted elsewhere).

Tiles that a mask hides whole are skipped. The backward pass is called below the kernel's own
interface, which lets no other output than its own into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec
from jaxtyping import Array

from asg_jax.models.layers.attention import platform
from asg_jax.models.sharding import BATCH_AXES

if TYPE_CHECKING:
    from asg_jax.models.layers.fused_attention import Rows

LANES = 128  # widths, and numbers of queries and keys, are multiples of it
TILES = (512, 256, LANES)  # queries or keys of a tile: the largest that divides their number


def forward(rows: Rows) -> tuple[Array, Array]:
    """Output (N, R, heads, width) and log-sum-exp (N, R, heads) in float32."""

    def one(seen: Array | None, queries: Array, keys: Array, values: Array) -> tuple[Array, Array]:
        kernel, segments = _kernel(seen, queries, keys, rows.causal)
        out, (total,) = kernel(queries, keys, values, segments)
        return out, total

    count, width = rows.queries.shape[1], rows.queries.shape[3]
    out, total = _on_every_device(one, *_padded(rows))
    return jnp.moveaxis(out, 1, 2)[:, :count, :, :width], jnp.moveaxis(total, 1, 2)[:, :count]


def backward(rows: Rows, out: Array, total: Array, cotangent: Array) -> tuple[Array, ...]:
    """Gradients of queries, keys and values, given the output and log-sum-exp to count by."""

    def one(seen: Array | None, queries: Array, keys: Array, values: Array, *joint: Array) -> Any:
        kernel, segments = _kernel(seen, queries, keys, rows.causal)
        out, total, cotangent = joint
        flat = lambda info: info._replace(partial_mask_blocks=_flat(info.partial_mask_blocks))
        infos = flat(kernel.dq_mask_info), flat(kernel.dkv_mask_info)
        saved = (queries, keys, values, segments, None, out, total, *infos)
        return splash._splash_attention_bwd(**kernel.kwargs, res=saved, do=cotangent)[3:6]

    count, size, width = rows.queries.shape[1], rows.keys.shape[1], rows.queries.shape[3]
    joint = _pad(out), _pad(total[..., None], 1)[..., 0], _pad(cotangent)
    gradients = _on_every_device(one, *_padded(rows), *joint)
    d_queries, d_keys, d_values = (jnp.moveaxis(x, 1, 2)[..., :width] for x in gradients)
    return d_queries[:, :count] * width**-0.5, d_keys[:, :size], d_values[:, :size]


def _pad(x: Array, lanes: int = LANES) -> Array:
    """(N, length, heads, width) to (N, heads, length, width), both in whole lanes."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % LANES), (0, 0), (0, -x.shape[3] % lanes)))
    return jnp.moveaxis(x, 1, 2)


def _padded(rows: Rows) -> tuple[Array | None, Array, Array, Array]:
    """What is seen, scaled queries, keys and values; `seen` is (N, S) where queries are alike."""
    queries, keys, values, mask, causal = rows
    count, size = queries.shape[1], keys.shape[1]
    if mask is None and not causal and size % LANES:
        mask = jnp.ones((queries.shape[0], 1, size), bool)
    if mask is not None:
        more = 0 if mask.shape[1] == 1 else -count % LANES
        mask = jnp.pad(mask, ((0, 0), (0, more), (0, -size % LANES)))
        mask = mask[:, 0] if mask.shape[1] == 1 else mask
    scaled = queries * jnp.asarray(queries.shape[-1] ** -0.5, queries.dtype)
    return mask, _pad(scaled), _pad(keys), _pad(values)


def _kernel(seen: Array | None, queries: Array, keys: Array, causal: bool) -> tuple[Any, Any]:
    """The kernel of one sequence, and the segments by which it hides keys from all queries."""
    heads, count, size = *queries.shape[:2], keys.shape[1]
    tile = lambda length: next(t for t in TILES if length % t == 0)
    rows, columns = tile(count), tile(size)
    sizes = splash.BlockSizes(
        block_q=rows,
        block_kv=columns,
        block_q_dkv=rows,
        block_kv_dkv=columns,
        block_q_dq=rows,
        block_kv_dq=columns,
    )
    static = masks.CausalMask if causal else masks.FullMask
    whole, segments = masks.MultiHeadMask([static((count, size))] * heads), None
    mask: Any = whole
    if seen is not None and seen.ndim == 1:
        segments = splash.SegmentIds(jnp.ones(count, jnp.int32), seen.astype(jnp.int32))
    elif seen is not None:
        mask = seen[None]
    kernel = splash.make_splash_mha(
        mask,
        block_sizes=sizes,
        save_residuals=True,
        head_shards=1,
        q_seq_shards=1,
        interpret=platform() != "tpu",
    )
    # Under jit that field has become an array, which the kernel then cannot ask.
    kernel.fwd_mask_info = kernel.fwd_mask_info._replace(is_dynamic_mask=mask is not whole)
    return kernel, segments


def _flat(blocks: Array | None) -> Array | None:
    return None if blocks is None else blocks.reshape(-1, *blocks.shape[-2:])


def _on_every_device(one: Callable[..., Any], seen: Array | None, *arrays: Array) -> Any:
    """Runs `one` for each sequence; every device takes its own sequences and heads.

    The compiler cannot cut a kernel, so the cut is made by hand over the mesh that `jax.set_mesh`
    set, if any.
    """
    every = jax.vmap(one, in_axes=(None if seen is None else 0, *[0] * len(arrays)))
    mesh = jax.sharding.get_abstract_mesh()
    if not set(BATCH_AXES) <= set(mesh.auto_axes):
        return every(seen, *arrays)
    fits = lambda size, axes: size % math.prod(mesh.shape[a] for a in axes) == 0
    batch = BATCH_AXES if fits(arrays[0].shape[0], BATCH_AXES) else None
    kv_heads = arrays[1].shape[1]
    heads = "tensor" if fits(kv_heads, ("tensor",)) else None
    cut = PartitionSpec(batch, heads)
    return jax.shard_map(
        every,
        in_specs=(PartitionSpec(batch), *[cut] * len(arrays)),
        out_specs=cut,
        check_vma=False,
    )(seen, *arrays)
