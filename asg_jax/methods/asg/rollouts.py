"""The programs that sample and look: functions of parameters and a batch.

The first axis of every array of a batch and of a result counts examples (B of them, or B groups of
G or L), so that a program can run on every share of a batch on its own. Letters are those of
`asg_jax.backbone`; L counts the drawings of a prompt.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8, UInt32

from asg_jax.backbone import (
    Backbone,
    BitsTrace,
    FlowTrace,
    Params,
    Processor,
    Prompt,
    PyTree,
    Request,
    Sampler,
    encode,
    to_uint8,
)
from asg_jax.pytree import pytree
from asg_jax.rollout.image import sample_images
from asg_jax.rollout.text import TextRollout, TextSampler, sample_text, score
from asg_jax.signals.cycle import embedding, likelihood_similarity, similarity
from asg_jax.signals.fidelity import answer_probability
from asg_jax.signals.groups import masked_mean


@pytree
class Texts:
    """G texts that follow each of B prompts, padded on the right."""

    ids: Int[Array, "B G T"]
    mask: Bool[Array, "B G T"]


@pytree
class Talk:
    """Texts that a role is to continue, all on one picture per example.

    Attributes:
      request: the pictures.
      texts: what the role is told.
      temperature: 0 is greedy.
      stream: where the random numbers come from, see `keys`.
    """

    request: Request
    texts: Texts
    temperature: Float[Array, "B G"]
    stream: UInt32[Array, "B S"]


@pytree
class Order:
    """Captions that the Generator is to draw."""

    request: Request
    stream: UInt32[Array, "B S"]


@pytree
class Drawings:
    """L drawings of each prompt.

    Attributes:
      values: as the backbone generates them.
      pixels: in [0, 1].
      pictures: the same as 8-bit values.
      latents: before every step of a stochastic sampler and after the last one, else None.
      log_probs: recorded while sampling: of the steps of that sampler (B, steps, L), or of bits,
        each where it stands in the values; else None.
    """

    values: Array  # (B, L, image tokens, C)
    pixels: Float[Array, "B L H W 3"]
    pictures: UInt8[Array, "B L H W 3"]
    latents: Array | None = None  # (B, steps and end, L, image tokens, C)
    log_probs: Array | None = None


@pytree
class Viewing:
    """Drawings as the Solver is to see them.

    Attributes:
      pixels: in [0, 1].
      frame: the prompt of a picture of their size, without its features.
    """

    pixels: Float[Array, "B L H W 3"]
    frame: Prompt


@pytree
class Examination:
    """What the Solver is asked about every drawing of a prompt.

    Attributes:
      viewing: the drawings.
      questions: framed questions, Q for each prompt.
      describe: the instruction to write a caption; G = 1.
      references: M reference answers, and the framed questions that they answer.
      temperature: of the answers.
      caption_temperature: of the caption.
      stream: see `keys`.
    """

    viewing: Viewing
    questions: Texts
    describe: Texts
    references: tuple[Texts, TextRollout]
    temperature: Float[Array, "B Q"]
    caption_temperature: Float[Array, "B 1"]
    stream: UInt32[Array, "B S"]


@pytree
class Seen:
    """What the judge said about the drawings; first axes are (B, L).

    Attributes:
      answers: (B, L, Q, tokens).
      captions: (B, L, 1, tokens).
      live: probabilities of the reference answers, of the Solver as it is now.
      frozen: the same of the frozen model.
    """

    answers: TextRollout
    captions: TextRollout
    live: Float[Array, "B L M"]
    frozen: Float[Array, "B L M"]


@pytree
class Sentence:
    """Texts to be embedded, and which rows hold their words and no markers."""

    prompt: Prompt
    words: Bool[Array, "B T"]


@pytree
class Comparison:
    """Drawings, their prompts and their captions, to be compared by the frozen model.

    Attributes:
      viewing: the drawings.
      prompts: B captions that were drawn.
      captions: B * L captions of the drawings.
      describe: the instruction to write a caption; G = 1.
      rollout: the captions that were drawn, as they were sampled; G = 1.
    """

    viewing: Viewing
    prompts: Sentence
    captions: Sentence
    describe: Texts
    rollout: TextRollout


@pytree
class Likeness:
    """How drawings, prompts and captions resemble each other; embeddings are normalised."""

    caption_similarity: Float[Array, "B L"]
    image_similarity: Float[Array, "B L"]
    features: Float[Array, "B L D"]


def keys(stream: UInt32[Array, "B S"], count: int) -> Key[Array, "B {count}"]:
    """Keys of an example's samples: key(seed), folded with the other numbers of its row.

    The row holds seed, step, example and purpose, so that no number depends on where in a batch or
    on which device an example stands.
    """

    def own(row: UInt32[Array, " S"]) -> Key[Array, " {count}"]:
        key = jax.random.key(row[0])
        for number in row[1:]:
            key = jax.random.fold_in(key, number)
        return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))

    return jax.vmap(own)(stream)


def speak(
    backbone: Backbone, max_tokens: int, stop_ids: tuple[int, ...], params: Params, talk: Talk
) -> TextRollout:
    """Continues all texts of an example on one prefix, which is computed once."""
    prefix = backbone.prefill(params, encode(backbone, params, talk.request).main)
    sampler = TextSampler(talk.temperature, max_tokens, stop_ids)
    own = keys(talk.stream, talk.temperature.shape[1])
    return sample_text(backbone, params, prefix, talk.texts.ids, talk.texts.mask, own, sampler)


def draw(
    backbone: Backbone, sampler: Sampler, images: int, params: Params, order: Order
) -> Drawings:
    """Draws a group of images for each caption; the condition is computed once per caption."""
    own = keys(order.stream, images)
    condition = backbone.condition(params, encode(backbone, params, order.request), own[0, 0])
    state = sample_images(backbone, params, condition, own, sampler)
    target = backbone.preview(params, condition, state, sampler)
    pixels = backbone.pixels(params, condition, target, own)
    drawing = Drawings(target.values, pixels, to_uint8(pixels))
    if isinstance(state.trace, BitsTrace):
        return replace(drawing, log_probs=state.trace.log_probs)
    if not isinstance(state.trace, FlowTrace):
        return drawing
    first = lambda x: jnp.moveaxis(x, 1, 0)
    return replace(
        drawing, latents=first(state.trace.latents), log_probs=first(state.trace.log_probs)
    )


def view(backbone: Backbone, processor: Processor, params: Params, viewing: Viewing) -> Prompt:
    """B * L prompts of one drawing each."""
    pixels = viewing.pixels.reshape(-1, *viewing.pixels.shape[2:])
    features = backbone.encode_image(params, processor.view(pixels))
    return replace(_repeat(viewing.frame, viewing.pixels.shape[1]), features=features)


def examine(
    backbone: Backbone,
    processor: Processor,
    answer_tokens: int,
    caption_tokens: int,
    judge: Literal["live", "frozen"],
    params: Params,
    batch: Examination,
) -> Seen:
    """Answers about drawings and captions of them, on one prefix per drawing."""
    images, stops = batch.viewing.pixels.shape[1], processor.stop_ids
    looks = partial(view, backbone, processor, viewing=batch.viewing)
    frozen = Params(params.base)
    judging = frozen if judge == "frozen" else params
    prefix = backbone.prefill(judging, looks(judging))
    count = batch.temperature.shape[1] + 1
    own = keys(batch.stream, images * count).reshape(-1, count)

    def sample(texts: Texts, temperature: Array, own: Array, tokens: int) -> TextRollout:
        texts, temperature = _repeat((texts, temperature), images)
        sampler = TextSampler(temperature, tokens, stops)
        return sample_text(backbone, judging, prefix, texts.ids, texts.mask, own, sampler)

    def known(params: Params) -> Float[Array, "BL M"]:
        texts, rollout = _repeat(batch.references, images)
        scored = score(backbone, params, looks(params), texts.ids, texts.mask, rollout)
        return answer_probability(scored.plain_log_probs, rollout.mask)

    seen = Seen(
        answers=sample(batch.questions, batch.temperature, own[:, 1:], answer_tokens),
        captions=sample(batch.describe, batch.caption_temperature, own[:, :1], caption_tokens),
        live=known(params),
        frozen=known(frozen),
    )
    return jax.tree.map(lambda x: x.reshape(-1, images, *x.shape[1:]), seen)


def compare(
    backbone: Backbone, processor: Processor, likelihood: bool, params: Params, batch: Comparison
) -> Likeness:
    """Similarities by the model's own embeddings; `params` are those of the frozen model.

    (Ask, Solve, Generate, arXiv 2606.27376, cycle score.)

    Args:
      backbone: static under jit.
      processor: static under jit.
      likelihood: compare drawing and prompt by the likelihood of the prompt as a caption.
      params: without an adapter.
      batch: what is compared.
    """
    images = batch.viewing.pixels.shape[1]
    group = lambda x: x.reshape(-1, images, *x.shape[1:])
    prompt = view(backbone, processor, params, batch.viewing)
    captions = group(_embed(backbone, params, batch.captions))
    texts = group(_repeat(_embed(backbone, params, batch.prompts), images))
    if likelihood:
        explained = group(_caption_likelihood(backbone, params, prompt, batch, images))
        related = likelihood_similarity(explained, jnp.ones(explained.shape, bool))
    else:
        rows = backbone.states(params, prompt)
        related = similarity(group(embedding(rows, prompt.slot >= 0)), texts)
    features = prompt.features
    assert features is not None  # `view` put them there
    count = features.shape[1]
    shown = (prompt.slot[..., None] == jnp.arange(count)).any(-2)  # not the tower's padding
    return Likeness(similarity(captions, texts), related, group(embedding(features, shown)))


def _embed(backbone: Backbone, params: Params, sentence: Sentence) -> Float[Array, "B D"]:
    return embedding(backbone.states(params, sentence.prompt), sentence.words)


def _caption_likelihood(
    backbone: Backbone, params: Params, prompt: Prompt, batch: Comparison, images: int
) -> Float[Array, " B*L"]:
    """Log-likelihood per token of the drawn caption, given each drawing."""
    texts, rollout = _repeat((batch.describe, batch.rollout), images)
    scored = score(backbone, params, prompt, texts.ids, texts.mask, rollout)
    return masked_mean(scored.plain_log_probs, rollout.mask, axis=-1)[:, 0]


def _repeat(tree: PyTree, images: int) -> PyTree:
    """Every row once for each drawing of its prompt."""
    return jax.tree.map(lambda x: jnp.repeat(x, images, axis=0), tree)
