"""Conversations as rows: segments of text, views and latents, with their indexes and visibility.

A text segment is causal and takes consecutive rotary indexes. A picture segment is framed by two
markers, its rows see each other, and all of them share one index. (BAGEL, arXiv 2505.14683.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Image, Prompt, host
from asg_jax.models.bagel.config import BagelConfig, SpecialTokens
from asg_jax.models.pictures import bucket
from asg_jax.pytree import pytree


@dataclass(frozen=True)
class Text:
    """A text segment, markers included; with `loss` every row but the last predicts the next."""

    ids: Sequence[int]
    loss: bool = False


@dataclass(frozen=True)
class View:
    """A picture as vision features, which start at row `slot` of the prompt's features."""

    grid: tuple[int, int]
    slot: int = 0


@dataclass(frozen=True)
class Latent:
    """A picture as latents: clean context, or noisy with a flow loss.

    Noisy rows are seen by their own segment only, and do not advance the rotary index.
    """

    grid: tuple[int, int]
    slot: int = 0
    noisy: bool = False


@dataclass(frozen=True)
class Gap:
    """A picture that condition dropout removed: it still advances the rotary index."""


Segment = Text | View | Latent | Gap

# A row of text or of a picture, before batching.
ROW = np.dtype(
    [
        ("id", np.int32),
        ("slot", np.int32),
        ("position", np.int32),
        ("order", np.int32),
        ("mask", bool),
        ("noisy", bool),
        ("label", np.int32),
        ("weight", np.float32),
        ("picture", np.int32),  # among the latent pictures of the sample
        ("place", np.int32),  # row of the latent position table
    ]
)
# Nothing sees a padding row; its order lets it see what is real.
PADDING = np.array((0, -1, 0, np.iinfo(np.int32).max, False, False, -1, 0, 0, 0), ROW)


@pytree
class TrainingBatch:
    """Samples with losses. U text rows, then L latent rows; K latent pictures in a sample.

    Attributes:
      prompt: all rows; its features are made from `images`, its latent rows from `latents`.
      noisy: rows of noisy pictures, markers included.
      labels: next token of each text row, -1 where there is no loss.
      weights: 1 / sqrt(labels of the segment), for the re-weighted loss.
      picture: latent picture of each latent row.
      place: row of the latent position table of each latent row.
      latents: clean latents; made by the frozen autoencoder, so they come as data.
      noise: what the noisy rows start from.
      raw_time: normal draw of each latent picture, -inf for a clean one.
      images: vision pictures, the i-th of every sample in the i-th `Image`.
    """

    prompt: Prompt
    noisy: Bool[Array, "B T"]
    labels: Int[Array, "B U"]
    weights: Float[Array, "B U"]
    picture: Int[Array, "B L"]
    place: Int[Array, "B L"]
    latents: Float[Array, "B L C"]
    noise: Float[Array, "B L C"]
    raw_time: Float[Array, "B K"]
    images: tuple[Image, ...] = ()


def layout(conversations: Sequence[Sequence[Segment]], config: BagelConfig) -> Prompt:
    """Rows of a batch of segment lists, padded to a bucket; latents stand at the end."""
    rows, text = _table(conversations, config)
    return _prompt(rows, rows.shape[1] - text)


def training_batch(
    samples: Sequence[Sequence[Segment]],
    config: BagelConfig,
    latents: Sequence[Sequence[Float[np.ndarray, "_ C"]]],
    raw_times: Sequence[Sequence[float]],
    rng: np.random.Generator,
    images: tuple[Image, ...] = (),
) -> TrainingBatch:
    """Samples with their losses.

    Args:
      samples: segments of each sample.
      config: sizes and markers.
      latents: clean tokens of each sample's latent pictures, in order.
      raw_times: a normal draw for each of the same pictures, or -inf where it is clean.
      rng: source of the noise.
      images: vision pictures; a view's slot counts the rows of all earlier ones.
    """
    rows, text = _table(samples, config)
    batch, length = rows.shape[0], rows.shape[1] - text
    clean = np.zeros((batch, length, config.token_channels), np.float32)
    for row, pictures in zip(clean, latents, strict=True):
        flat = np.concatenate([*pictures, row[:0]])
        row[: len(flat)] = flat
    times = np.full((batch, max([1, *map(len, raw_times)])), -np.inf, np.float32)
    for row, values in zip(times, raw_times, strict=True):
        row[: len(values)] = values
    return TrainingBatch(
        prompt=_prompt(rows, length),
        noisy=host(rows["noisy"]),
        labels=host(rows["label"][:, :text]),
        weights=host(rows["weight"][:, :text]),
        picture=host(rows["picture"][:, text:]),
        place=host(rows["place"][:, text:]),
        latents=host(clean),
        noise=host(rng.standard_normal(clean.shape, np.float32)),
        raw_time=host(times),
        images=images,
    )


def drop_conditions(
    segments: Sequence[Segment],
    rng: np.random.Generator,
    text: float = 0.1,
    view: float = 0.3,
    latent: float = 0.3,
) -> list[Segment]:
    """Drops conditions with the given probabilities, so that guidance has its branches to learn.

    Segments with a loss stay. A dropped text leaves no trace, a dropped picture its index.
    """
    kept: list[Segment] = []
    for segment in segments:
        if isinstance(segment, Text):
            if segment.loss or rng.random() >= text:
                kept.append(segment)
        elif isinstance(segment, View):
            kept.append(Gap() if rng.random() < view else segment)
        elif isinstance(segment, Latent) and not segment.noisy:
            kept.append(Gap() if rng.random() < latent else segment)
        else:
            kept.append(segment)
    return kept


def _prompt(rows: np.ndarray, latents: int) -> Prompt:
    return Prompt(
        ids=host(rows["id"]),
        slot=host(rows["slot"]),
        positions=host(rows["position"][..., None]),
        order=host(rows["order"]),
        mask=host(rows["mask"]),
        latents=latents,
    )


def _table(samples: Sequence[Sequence[Segment]], config: BagelConfig) -> tuple[np.ndarray, int]:
    """All rows as a (batch, text + latents) array of ROW, and the number of text rows."""
    pairs = [_rows(segments, config) for segments in samples]
    text = bucket(max(len(t) for t, _ in pairs))
    table = np.full((len(pairs), text + max(len(latent) for _, latent in pairs)), PADDING)
    for row, (t, latent) in zip(table, pairs, strict=True):
        row[: len(t)] = t
        row[text : text + len(latent)] = latent
    return table, text


def _rows(segments: Sequence[Segment], config: BagelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Text rows (markers and views among them) and latent rows of one sample, in order."""
    text, latent = [PADDING[None][:0]], [PADDING[None][:0]]
    position = order = pictures = 0
    for segment in segments:
        if isinstance(segment, Text):
            rows = _text_rows(segment, position, order)
            text.append(rows)
            position += len(rows)
            order += len(rows)
        elif isinstance(segment, Gap):
            position += 1
        else:
            noisy = isinstance(segment, Latent) and segment.noisy
            markers, inner = _picture_rows(segment, config.tokens, position, order, noisy)
            if isinstance(segment, Latent):
                inner["picture"] = pictures
                inner["place"] = _places(segment.grid, config.latent_side)
                text.append(markers)
                latent.append(inner)
                pictures += 1
            else:
                text.append(np.concatenate([markers[:1], inner, markers[1:]]))
            position += not noisy
            order += 1
    return np.concatenate(text), np.concatenate(latent)


def _text_rows(segment: Text, position: int, order: int) -> np.ndarray:
    rows = np.full(len(segment.ids), PADDING)
    steps = np.arange(len(rows))
    rows["id"], rows["mask"] = segment.ids, True
    rows["position"], rows["order"] = position + steps, order + steps
    if segment.loss:
        rows["label"][:-1] = segment.ids[1:]
        rows["weight"][:-1] = 1 / math.sqrt(len(rows) - 1)
    return rows


def _picture_rows(
    segment: View | Latent, tokens: SpecialTokens, position: int, order: int, noisy: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The two markers, and the rows between them."""
    count = segment.grid[0] * segment.grid[1]
    rows = np.full(2 + count, PADDING)
    rows["position"], rows["order"], rows["noisy"], rows["mask"] = position, order, noisy, True
    rows["id"][:2] = tokens.image_start, tokens.image_end
    rows["slot"][2:] = segment.slot + np.arange(count)
    return rows[:2], rows[2:]


def _places(grid: tuple[int, int], side: int) -> np.ndarray:
    return (np.arange(grid[0])[:, None] * side + np.arange(grid[1])).ravel()
