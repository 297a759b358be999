"""Prefill, shared-prefix extension, decoding and teacher forcing over a `LanguageModel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Cache, Prefix, Prompt
from asg_jax.models.layers.attention import CAUSAL, Block, Causal
from asg_jax.models.layers.language import LanguageModel


def visible(prompt: Prompt) -> Bool[Array, "B 1 T T"] | Causal:
    """Which rows (last axis) each row of a prompt sees."""
    if prompt.causal:
        return CAUSAL
    seen = prompt.order[:, None, :] <= prompt.order[:, :, None]
    return (seen & prompt.mask[:, None, :])[:, None]


def prefix_block(prefix: Prefix) -> Block:
    """A prefix as keys that the samples of a prompt share."""
    return Block(prefix.keys, prefix.values, prefix.mask[:, None, None, :])


def interleave(parts: Sequence[Array], axis: int) -> Array:
    """Arrays of one shape joined along an axis: all first entries, then all second ones."""
    joined = jnp.stack(parts, axis + 1)
    return joined.reshape(*joined.shape[:axis], -1, *joined.shape[axis + 2 :])


def join_prefixes(contexts: Sequence[Prefix]) -> Prefix:
    """Contexts of the same prompts in one batch; those of one prompt follow each other."""
    rows = max(context.mask.shape[1] for context in contexts)

    def pad(x: Array, axis: int) -> Array:
        return jnp.pad(x, [(0, (rows - x.shape[axis]) * (a == axis)) for a in range(x.ndim)])

    return Prefix(
        keys=interleave([pad(c.keys, 2) for c in contexts], 1),
        values=interleave([pad(c.values, 2) for c in contexts], 1),
        mask=interleave([pad(c.mask, 1) for c in contexts], 0),
        position=interleave([c.position for c in contexts], 0),
        hidden=interleave([c.hidden for c in contexts], 0),
    )


def states(model: LanguageModel, prompt: Prompt) -> Float[Array, "B T D"]:
    """Final hidden state of every row, in the order of storage."""
    return _run(model, prompt)[0]


def prefill(model: LanguageModel, prompt: Prompt) -> Prefix:
    """Keys, values, next position and last state of a prompt."""
    return prefill_states(model, prompt)[0]


def prefill_states(model: LanguageModel, prompt: Prompt) -> tuple[Prefix, Float[Array, "B T D"]]:
    """`prefill` and `states` in one pass."""
    hidden, (keys, values) = _run(model, prompt)
    order = jnp.where(prompt.mask, prompt.order, -1)
    last = order.shape[1] - 1 - jnp.argmax(order[:, ::-1], axis=1)
    positions = jnp.where(prompt.mask[..., None], prompt.positions, -1)
    prefix = Prefix(
        keys=keys[:, :, 0],
        values=values[:, :, 0],
        mask=prompt.mask,
        position=positions.max((1, 2)) + 1,
        hidden=jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0],
    )
    return prefix, hidden


def extend(
    model: LanguageModel,
    ids: Int[Array, "B G T"],
    mask: Bool[Array, "B G T"],
    prefix: Prefix,
    room: int,
) -> tuple[Float[Array, "B G D"], Cache]:
    """G right-padded texts on one prefix; the state of each text's last real token."""
    batch, samples, length = ids.shape
    before = jnp.broadcast_to(prefix.hidden[:, None], (batch, samples, prefix.hidden.shape[-1]))
    if length:
        hidden, (keys, values) = _suffix(model, ids, mask, prefix)
        last = length - 1 - jnp.argmax(mask[..., ::-1], axis=-1)
        hidden = jnp.take_along_axis(hidden, last[..., None, None], axis=2)[:, :, 0]
        hidden = jnp.where(mask.any(-1)[..., None], hidden, before)
    else:
        hidden = before
        layers, _, _, *head = prefix.keys.shape
        keys = values = jnp.zeros((layers, batch, samples, 0, *head), prefix.keys.dtype)
    grow = lambda x, axis: jnp.pad(x, [(0, room * (a == axis)) for a in range(x.ndim)])
    return hidden, Cache(
        prefix=prefix,
        keys=grow(keys, 3),
        values=grow(values, 3),
        mask=grow(mask, 2),
        position=prefix.position[:, None] + mask.sum(-1, dtype=jnp.int32),
        index=jnp.asarray(length, jnp.int32),
    )


def decode(
    model: LanguageModel, token: Int[Array, "B G"], cache: Cache
) -> tuple[Float[Array, "B G D"], Cache]:
    """Feeds one token per sample and writes it into the cache."""
    suffix = Block(cache.keys, cache.values, cache.mask[:, :, None, :])
    (hidden,), (keys, values) = model(
        (model.tokens(token)[:, :, None],),
        cache.position[..., None, None],
        None,
        (prefix_block(cache.prefix), suffix),
    )
    write = lambda old, new, axis: jax.lax.dynamic_update_slice_in_dim(old, new, cache.index, axis)
    return hidden[:, :, 0], replace(
        cache,
        keys=write(cache.keys, keys, 3),
        values=write(cache.values, values, 3),
        mask=write(cache.mask, jnp.ones((*token.shape, 1), bool), 2),
        position=cache.position + 1,
        index=cache.index + 1,
    )


def teacher_forced(
    model: LanguageModel,
    prompt: Prompt,
    ids: Int[Array, "B G T"],
    mask: Bool[Array, "B G T"],
) -> Float[Array, "B G T D"]:
    """States that predict `ids`: row 0 is the prompt's last state, row t follows ids[t - 1]."""
    prefix = prefill(model, prompt)
    first = jnp.broadcast_to(
        prefix.hidden[:, None, None], (*ids.shape[:2], 1, prefix.hidden.shape[-1])
    )
    if ids.shape[2] <= 1:
        return first[:, :, : ids.shape[2]]
    hidden, _ = _suffix(model, ids[..., :-1], mask[..., :-1], prefix)
    return jnp.concatenate([first, hidden], axis=2)


def _run(model: LanguageModel, prompt: Prompt):
    streams, kv = model(model.rows(prompt), prompt.positions[:, None], visible(prompt))
    return jnp.concatenate(streams, axis=2)[:, 0], kv


def _suffix(model: LanguageModel, ids: Array, mask: Array, prefix: Prefix):
    positions = prefix.position[:, None, None] + jnp.cumsum(mask, -1, dtype=jnp.int32) - 1
    (hidden,), kv = model(
        (model.tokens(ids),), positions[..., None], CAUSAL, (prefix_block(prefix),)
    )
    return hidden, kv
