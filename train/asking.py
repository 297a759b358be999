"""Questions about pictures, for the command line, notebooks and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int
from PIL.Image import Image as Picture

from asg_jax.backbone import Backbone, Params, Request, encode
from asg_jax.models.pictures import bucket
from asg_jax.models.registry import Model
from asg_jax.rollout.text import TextRollout, TextSampler, sample_text
from asg_jax.train.compiler import jit


def ask(
    model: Model,
    pictures: Picture | Sequence[Picture],
    texts: Sequence[str],
    temperatures: Sequence[float],
    *,
    params: Params | None = None,
    max_tokens: int = 64,
    seed: int = 0,
) -> tuple[list[str], TextRollout]:
    """One answer to each text, all on one encoding of the pictures that stand before it.

    Args:
      model: what answers.
      pictures: one, several or none; any size will do.
      texts: questions, framed as the model is to read them.
      temperatures: one for each answer; 0 is greedy.
      params: those of the role that answers; the model as it is by default.
      max_tokens: length of the longest answer.
      seed: gives the samples.

    Returns:
      The answers, and what was recorded while they were sampled, (1, texts, tokens).
    """
    shown = [pictures] if isinstance(pictures, Picture) else pictures
    request = model.processor.prompt([list(shown)], "ask")
    rows, mask = rows_of([model.processor.question(text) for text in texts])
    keys = jax.random.split(jax.random.key(seed), (1, len(texts)))
    sampler = TextSampler(
        temperature=jnp.array([temperatures]),
        max_tokens=max_tokens,
        stop_ids=model.processor.stop_ids,
    )
    params = params or Params(model.base)
    rollout = _answer(model.backbone, params, request, rows, mask, keys, sampler)
    rollout = jax.tree.map(np.asarray, rollout)
    said = zip(rollout.ids[0], rollout.mask[0], strict=True)
    return [model.processor.text(ids[real].tolist()).strip() for ids, real in said], rollout


def rows_of(
    ids: Sequence[Sequence[int]],
) -> tuple[Int[np.ndarray, "1 G T"], Bool[np.ndarray, "1 G T"]]:
    """Texts of one picture as rows, padded on the right to a bucket, and which ids are real."""
    rows = np.zeros((1, len(ids), bucket(max(map(len, ids)))), np.int32)
    for row, one in zip(rows[0], ids, strict=True):
        row[: len(one)] = one
    return rows, np.arange(rows.shape[2]) < np.array([len(one) for one in ids])[None, :, None]


@partial(jit, static_argnums=0)
def _answer(
    backbone: Backbone,
    params: Params,
    request: Request,
    ids: Array,
    mask: Array,
    keys: Array,
    sampler: TextSampler,
) -> TextRollout:
    """Encodes and prefills the picture once, and continues every text on that prefix."""
    prefix = backbone.prefill(params, encode(backbone, params, request).main)
    return sample_text(backbone, params, prefix, ids, mask, keys, sampler)
