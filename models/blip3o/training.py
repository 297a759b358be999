"""The training forward of BLIP3o: conversations that end in queries, and the velocity they give.

The language model reads the conversation and the queries in one row each; the transformer learns
the flow of the target's features. (BLIP3o, arXiv 2505.09568, section 3.)
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Flow, Prompt, Target, host
from asg_jax.models.blip3o.config import Blip3oTokens
from asg_jax.models.blip3o.model import TRAIN_TIMES, Blip3o
from asg_jax.models.layers.context import states
from asg_jax.pytree import pytree


@pytree
class QueryBatch:
    """Conversations whose last rows are queries.

    Attributes:
      prompt: all rows; those of pictures name their slots, those of queries the ones after these.
      first: the row of the first query.
    """

    prompt: Prompt
    first: Int[Array, " B"]


def query_batch(
    ids: Int[np.ndarray, "B T"],
    mask: Bool[np.ndarray, "B T"],
    labelled: Bool[np.ndarray, "B T"],
    tokens: Blip3oTokens,
    seen: int,
) -> QueryBatch:
    """Rows of token ids; indexes are plain, pictures included, as in the official code.

    Args:
      ids: right-padded.
      mask: which rows are real.
      labelled: which rows the answer is made of; markers of queries count there, those of pictures
        elsewhere.
      tokens: the markers.
      seen: features of pictures that each row is given.
    """
    queries = (ids == tokens.query) & labelled
    pictures = (ids == tokens.picture) & ~labelled
    count = lambda where: np.cumsum(where, 1, dtype=np.int32) - 1
    slot = np.where(queries, seen + count(queries), np.where(pictures, count(pictures), -1))
    steps = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
    prompt = Prompt(
        ids=host(ids.astype(np.int32)),
        slot=host(slot),
        positions=host(np.broadcast_to(steps[..., None], (*ids.shape, 3))),
        order=host(steps),
        mask=host(mask),
    )
    return QueryBatch(prompt, host(queries.argmax(1).astype(np.int32)))


def batch_states(
    model: Blip3o, batch: QueryBatch, features: Float[Array, "B M D"]
) -> Float[Array, "B T D"]:
    """Final states of all rows, with the features of pictures and the queries in their places."""
    queries = model.queries[...].astype(model.config.language.dtype)
    queries = jnp.broadcast_to(queries, (features.shape[0], *queries.shape))
    rows = jnp.concatenate([features.astype(queries.dtype), queries], axis=1)
    return states(model.language, replace(batch.prompt, features=rows))


def query_rows(
    model: Blip3o, batch: QueryBatch, hidden: Float[Array, "B T D"]
) -> Float[Array, "B Q D"]:
    """The states of the queries among those of all rows."""
    rows = batch.first[:, None] + jnp.arange(model.config.queries)
    return jnp.take_along_axis(hidden, rows[..., None], axis=1)


def training_times(u: Float[Array, " B"]) -> Float[Array, " B"]:
    """Shares of noise k / 1000 from uniform numbers; 0 gives pure noise."""
    return (TRAIN_TIMES - jnp.floor(TRAIN_TIMES * u)) / TRAIN_TIMES


def training_terms(
    model: Blip3o,
    z: Float[Array, "B Q D"],
    target: Target,
    noise: Float[Array, "B L C"],
    t: Float[Array, " B"],
    keep: Bool[Array, " B"],
) -> Flow:
    """What the loss compares, the mean of the squares; a condition that is not kept is zero."""
    caption = model.dit.caption(z * keep[:, None, None].astype(z.dtype))
    share = t[:, None, None]
    noisy = (1 - share) * target.values + share * noise
    velocity = model.velocity(noisy[:, None], t[:, None], caption)[0]
    return Flow(velocity, (noise - target.values)[:, None])
