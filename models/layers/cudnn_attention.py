"""One block of attention through cuDNN's fused kernels, for 16-bit numbers on NVIDIA GPUs.

Below `jax.nn.dot_product_attention`, which returns the log-sum-exp rounded to 16 bits and lets no
other output than its own into its backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jaxtyping import Array

if TYPE_CHECKING:
    from asg_jax.models.layers.fused_attention import Rows


def forward(rows: Rows) -> tuple[Array, Array]:
    """Output (N, R, heads, width) and log-sum-exp (N, R, heads) in float32."""
    count = rows.queries.shape[1]
    queries, keys, values, bias = _even(rows)
    both: Any = cudnn.dot_product_attention(
        queries,
        keys,
        values,
        bias,
        scale=_scale(rows),
        mask_type=_mask_type(rows),
        return_residual=True,
    )
    out, total = both
    return out[:, :count], jnp.moveaxis(total, 1, 2)[:, :count]


def backward(rows: Rows, out: Array, total: Array, cotangent: Array) -> tuple[Array, ...]:
    """Gradients of queries, keys and values, given the output and log-sum-exp to count by."""
    count, size = rows.queries.shape[1], rows.keys.shape[1]
    queries, keys, values, bias = _even(rows)
    out, total, cotangent = (_pad(x, queries.shape[1] - count) for x in (out, total, cotangent))
    absent = jnp.zeros(0, queries.dtype)
    total = jnp.moveaxis(total, 2, 1)
    has_bias = bias is not None
    inputs = queries, keys, values, bias if has_bias else absent, *[absent] * 6
    d_queries, d_keys, d_values, *_ = cudnn._dot_product_attention_bwd_rule(
        _scale(rows),
        0,  # seed of a dropout that is not there
        0.0,
        (has_bias, False),  # no gradient of the bias
        _mask_type(rows),
        cudnn.AttentionLayout.BTNH.value,
        None,
        True,
        False,
        (*inputs, total, out),
        cotangent,
    )
    return d_queries[:, :count], d_keys[:, :size], d_values[:, :size]


def _mask_type(rows: Rows) -> cudnn.MaskType:
    return cudnn.MaskType.CAUSAL if rows.causal else cudnn.MaskType.NO_MASK


def _scale(rows: Rows) -> float:
    return rows.queries.shape[-1] ** -0.5


def _pad(x: Array, rows: int) -> Array:
    return jnp.pad(x, [(0, rows * (axis == 1)) for axis in range(x.ndim)])


def _even(rows: Rows) -> tuple[Array, Array, Array, Array | None]:
    """Queries, keys, values and the mask as a bias; with one, cuDNN wants even lengths."""
    queries, keys, values, mask, _ = rows
    if mask is None:
        return queries, keys, values, None
    more, extra = queries.shape[1] % 2, keys.shape[1] % 2
    shape = (mask.shape[0], queries.shape[1], keys.shape[1])
    mask = jnp.pad(jnp.broadcast_to(mask, shape), ((0, 0), (0, more), (0, extra)))
    hidden = cudnn.get_large_negative_number(queries.dtype)
    bias = jnp.where(mask, jnp.zeros((), queries.dtype), hidden)[:, None]
    return _pad(queries, more), _pad(keys, extra), _pad(values, extra), bias
