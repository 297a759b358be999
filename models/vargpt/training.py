"""The training forward of VARGPT-v1.1: text and one drawn picture in one sequence, and its losses.

The language model reads the prompt, the tokens of a known picture (padded to a round number) and
what follows as plain text. (VARGPT-v1.1, arXiv 2504.02949, section 3; the losses are those of the
official code.)
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Prompt, host
from asg_jax.models.layers.attention import Block
from asg_jax.models.layers.context import states
from asg_jax.models.vargpt.model import Branch, Vargpt
from asg_jax.models.vargpt.scales import Schedule
from asg_jax.ops.bits import bit_log_probs
from asg_jax.ops.vocab import token_stats
from asg_jax.pytree import pytree

IMAGE_WEIGHT = 3.0  # of the cross-entropy of the bits beside that of the text


@pytree
class TrainingBatch:
    """Texts with one picture each; U text tokens that are predicted, S rows before the picture.

    Attributes:
      prompt: all rows; those of the picture name their slots.
      picture: the row of the picture's first token.
      context: which of the first rows the visual decoder reads.
      labels: text tokens.
      before: the row that predicts each of them.
      labelled: which of them exist.
    """

    prompt: Prompt
    picture: Int[Array, " B"]
    context: Bool[Array, "B S"]
    labels: Int[Array, "B U"]
    before: Int[Array, "B U"]
    labelled: Bool[Array, "B U"]


@pytree
class Forward:
    """Final states of all rows, losses per text token (nats), logits of every bit."""

    hidden: Float[Array, "B T D"]
    text: Float[Array, "B U"]
    logits: Float[Array, "B L bits 2"]


def training_batch(
    ids: Int[np.ndarray, "B T"], mask: Bool[np.ndarray, "B T"], pad: int
) -> TrainingBatch:
    """Rows of token ids in which runs of `pad` stand for the pictures.

    Indexes are plain. Every token but the first and those of the picture is a label, right padding
    among them, as in the official code. The decoder reads all but the last row before the picture.
    """
    batch, length = ids.shape
    drawn = ids == pad
    picture = drawn.argmax(1).astype(np.int32)
    steps = np.arange(length, dtype=np.int32)
    text = ~drawn & (steps > 0)
    before = np.zeros((batch, text.sum(1).max()), np.int32)
    labels, labelled = np.zeros_like(before), np.zeros(before.shape, bool)
    for n in range(batch):
        where = np.flatnonzero(text[n])
        before[n, : len(where)], labels[n, : len(where)] = where - 1, ids[n, where]
        labelled[n, : len(where)] = True
    prompt = Prompt(
        ids=host(ids.astype(np.int32)),
        slot=host(np.where(drawn, np.cumsum(drawn, 1, dtype=np.int32) - 1, -1)),
        positions=host(np.broadcast_to(steps[:, None], (*ids.shape, 3))),
        order=host(np.broadcast_to(steps, ids.shape)),
        mask=host(mask),
    )
    context = np.arange(picture.max() - 1) < picture[:, None] - 1
    return TrainingBatch(
        prompt, host(picture), host(context), host(labels), host(before), host(labelled)
    )


def training_forward(
    model: Vargpt,
    batch: TrainingBatch,
    bits: Int[Array, "B L bits"],
    schedule: Schedule,
    multiple: int = 128,
    dropped: Bool[Array, " B"] | None = None,
) -> Forward:
    """One pass over a batch.

    Args:
      model: the network.
      batch: texts with pictures.
      bits: what the pictures enter the network as (flipped ones among them).
      schedule: which scales the pictures have.
      multiple: the picture's rows are padded to a multiple of this.
      dropped: pictures whose condition vector is that of an absent prompt.
    """
    if dropped is None:
        dropped = jnp.zeros(bits.shape[0], bool)
    modulation = model.decoder.modulation(dropped)
    tokens = model.sequence(modulation.first, bits[:, None], schedule)[:, 0]
    tokens = jnp.pad(tokens, ((0, 0), (0, -schedule.length % multiple), (0, 0)))
    prompt = replace(batch.prompt, features=model.to_language(tokens))
    hidden = states(model.language, prompt)
    keys, values = model.decoder.context(model.from_language(hidden[:, : batch.context.shape[1]]))
    branch = Branch(None, Block(keys, values, batch.context[:, None, None]), modulation)
    rows = batch.picture[:, None] + jnp.arange(schedule.length)
    drawn = jnp.take_along_axis(hidden, rows[..., None], axis=1)
    # Only rows that predict text meet the vocabulary.
    predicting = jnp.take_along_axis(hidden, batch.before[..., None], axis=1)
    stats = token_stats(predicting, model.language.lm_head.table[...], batch.labels)
    return Forward(
        hidden=hidden,
        text=jnp.where(batch.labelled, -stats.log_prob, 0),
        logits=model.decoder_logits(branch, drawn[:, None], schedule)[:, 0],
    )


def mean_losses(
    forward: Forward, batch: TrainingBatch, labels: Int[Array, "B L bits"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy of all labels of the batch, and of all bits."""
    count = jnp.maximum(batch.labelled.sum(), 1)
    return forward.text.sum() / count, -bit_log_probs(forward.logits, labels).mean()


def surrogate_log_probs(
    forward: Forward, batch: TrainingBatch, labels: Int[Array, "B L bits"]
) -> Float[Array, " B"]:
    """What the official code of ASG takes for the log-prob of a picture.

    The negated training loss of each text and picture, with bits that are read off the decoded
    picture: a mean, not a sum, and the prompt's own cross-entropy is part of it.
    """
    count = jnp.maximum(batch.labelled.sum(1), 1)
    text = forward.text.sum(1) / count
    return IMAGE_WEIGHT * bit_log_probs(forward.logits, labels).mean((1, 2)) - text


def official_pixels(pixels: np.ndarray) -> Float[np.ndarray, "B H W 3"]:
    """Pictures in [-1, 1] of an array whose layout and range the official code guesses.

    Args:
      pixels: one picture or a batch, channels first or last; gray, RGB or with alpha; values up to
        255, in [0, 1] or in [-1, 1], told apart by the extremes of the whole array.
    """
    pixels = np.asarray(pixels, np.float32)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.shape[1] in (1, 3, 4):
        pixels = pixels.transpose(0, 2, 3, 1)
    pixels = np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]
    if pixels.max() > 1.5 or pixels.min() < -1.5:
        pixels = np.clip(pixels, 0, 255) / np.float32(255)
    if pixels.min() >= -0.001 and pixels.max() <= 1.001:
        return pixels * 2 - 1
    return np.clip(pixels, -1, 1)
