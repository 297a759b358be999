"""Prompts that wait to be drawn again, as arrays of a state."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from asg_jax.backbone import host
from asg_jax.engine.engine import Engine
from asg_jax.pytree import pytree


@pytree
class Pool:
    """Tokens of prompts, the oldest first; empty places come before them."""

    ids: Int[Array, "S T"]
    mask: Bool[Array, "S T"]


@pytree
class Queue:
    """The tokens of the prompts that a step draws, and where in the pool they came from."""

    ids: Int[Array, "B T"]
    mask: Bool[Array, "B T"]
    place: Int[Array, " B"]  # -1 for new ones


def empty_pool(size: int, tokens: int) -> Pool:
    """A pool without prompts."""
    return Pool(jnp.zeros((size, tokens), jnp.int32), jnp.zeros((size, tokens), bool))


def sort_pool(pool: Pool, queue: Queue, accepted: Bool[Array, " B"]) -> Pool:
    """The pool after a step: accepted prompts leave it, new ones that have nothing enter it.

    (Internal Gap, arXiv 2507.16663, algorithms 1 and 2, step by step.)

    Args:
      pool: what waited when the step began.
      queue: the prompts of the step; those without tokens are none.
      accepted: which of them have a drawing that is told to show them.
    """
    waits = queue.mask.any(-1) & ~accepted & (queue.place < 0)
    leaves = jnp.where(accepted & (queue.place >= 0), queue.place, len(pool.mask))
    kept = pool.mask.at[leaves].set(False, mode="drop")
    ids = jnp.concatenate([pool.ids, queue.ids])
    mask = jnp.concatenate([kept, queue.mask & waits[:, None]])
    order = jnp.argsort(mask.any(-1), stable=True)[-len(pool.mask) :]  # empty places to the front
    return Pool(ids[order], mask[order])


def waiting(engine: Engine, pool: Pool) -> list[tuple[int, str]]:
    """The prompts of the pool with their places, the oldest first."""
    pool = engine.placement.get(pool)
    read, rows = engine.model.processor.text, enumerate(zip(pool.ids, pool.mask, strict=True))
    return [(n, read(ids[real].tolist())) for n, (ids, real) in rows if real.any()]


def queued(engine: Engine, prompts: Sequence[str | None], places: Sequence[int]) -> Queue:
    """A step's prompts on devices."""
    tokens = engine.scribe.say([[text or ""] for text in prompts], engine.lengths.caption)
    queue = Queue(tokens.ids[:, 0], tokens.mask[:, 0], host(np.array(places, np.int32)))
    return engine.placement.put(queue)
