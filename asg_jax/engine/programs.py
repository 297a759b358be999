"""The programs that sample and look: functions of parameters and a batch.

The first axis of every array of a batch and of a result counts examples (B of them, or B groups of
G or L), so that a program can run on every share of a batch on its own. Letters are those of
`asg_jax.backbone`; L counts the drawings of a prompt, M their questions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt32

from asg_jax.backbone import Backbone, Params, Processor, Prompt, PyTree, Request, Sampler, encode
from asg_jax.ops.masked import masked_mean
from asg_jax.pytree import pytree
from asg_jax.ranges import bounded
from asg_jax.rollout import image
from asg_jax.rollout.image import Drawings
from asg_jax.rollout.text import TextRollout, Texts, TextSampler, sample_text, score
from asg_jax.signals.cycle import embedding
from asg_jax.signals.fidelity import answer_probability


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
    """Captions that are to be drawn; `stream` as in `keys`."""

    request: Request
    stream: UInt32[Array, "B S"]


@pytree
class Viewing:
    """Drawings as they are to be seen.

    Attributes:
      pixels: RGB values in [0, 1].
      frame: the prompt of a picture of their size, without its features.
    """

    pixels: Float[Array, "B L H W 3"]
    frame: Prompt


@pytree
class Inquiry:
    """What is asked about every drawing of a prompt.

    Attributes:
      viewing: the drawings.
      questions: Q framed questions for each prompt.
      describe: the instruction to write a caption; G = 1.
      reference_questions: M questions in their canonical framing.
      references: M reference answers to these.
      temperature: how the answers are sampled; 0 is greedy.
      caption_temperature: how the caption is sampled; 0 is greedy.
      stream: see `keys`.
    """

    viewing: Viewing
    questions: Texts
    describe: Texts
    reference_questions: Texts
    references: Texts
    temperature: Float[Array, "B Q"]
    caption_temperature: Float[Array, "B 1"]
    stream: UInt32[Array, "B S"]


@pytree
class Replies:
    """What was said about the drawings, None where nobody asked for it; first axes are (B, L).

    Attributes:
      answers: (B, L, Q, tokens).
      captions: (B, L, 1, tokens).
      probability: what the judge gives the reference answers.
    """

    answers: TextRollout | None = None
    captions: TextRollout | None = None
    probability: Float[Array, "B L M"] | None = None


@pytree
class Explanation:
    """Drawings and the captions that were drawn, to be told how well they fit.

    Attributes:
      viewing: the drawings.
      describe: the instruction to write a caption; G = 1.
      drawn: tokens of the captions, as answers to the instruction; G = 1.
    """

    viewing: Viewing
    describe: Texts
    drawn: Texts


@pytree
class Remark:
    """What is said to a model about every drawing of a prompt, to be gone on with greedily."""

    viewing: Viewing
    texts: Texts


@pytree
class Sentence:
    """Texts to be embedded, and which rows hold their words and no markers."""

    prompt: Prompt
    words: Bool[Array, "B T"]


@pytree
class Comparison:
    """Drawings, their prompts and their captions, to be compared.

    Attributes:
      viewing: the drawings.
      prompts: B captions that were drawn.
      captions: what the judge says of each drawing; the arrays have axes (B, L, ...). None if they
        are not compared.
      describe: the instruction to write a caption; G = 1.
      drawn: tokens of the captions that were drawn, as answers to the instruction; G = 1.
    """

    viewing: Viewing
    prompts: Sentence
    captions: Sentence | None
    describe: Texts
    drawn: Texts


@pytree
class Likeness:
    """Drawings, prompts and captions in one space, None where nobody asked for it.

    Embeddings are normalised.

    Attributes:
      prompts: final states of the language model over the prompts.
      captions: the same over each drawing's caption.
      pictures: the same over each drawing.
      likelihood: nats per token of the prompt as each drawing's caption.
      features: what the vision tower gives for each drawing.
    """

    prompts: Float[Array, "B D"] | None = None
    captions: Float[Array, "B L D"] | None = None
    pictures: Float[Array, "B L D"] | None = None
    likelihood: Float[Array, "B L"] | None = None
    features: Float[Array, "B L F"] | None = None


def keys(stream: UInt32[Array, "B S"], count: int) -> Key[Array, "B {count}"]:
    """Keys of an example's samples: key(seed), folded with the other numbers of its row.

    The row holds seed, step, picture, place in the batch and purpose, so that no number depends on
    which device an example stands on.
    """

    def of_example(row: UInt32[Array, " S"]) -> Key[Array, " {count}"]:
        key = jax.random.key(row[0])
        for number in row[1:]:
            key = jax.random.fold_in(key, number)
        return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))

    return jax.vmap(of_example)(stream)


def see(backbone: Backbone, params: Params, request: Request) -> Request:
    """The request with its pictures encoded, so that nobody has to encode them again."""
    return Request(encode(backbone, params, request))


def continue_texts(
    backbone: Backbone, max_tokens: int, stop_ids: tuple[int, ...], params: Params, talk: Talk
) -> TextRollout:
    """Continues all texts of an example on one prefix, which is computed once."""
    prefix = backbone.prefill(params, encode(backbone, params, talk.request).main)
    sampler = TextSampler(talk.temperature, max_tokens, stop_ids)
    of_samples = keys(talk.stream, talk.temperature.shape[1])
    return sample_text(
        backbone, params, prefix, talk.texts.ids, talk.texts.mask, of_samples, sampler
    )


def draw(
    backbone: Backbone, sampler: Sampler, images: int, params: Params, order: Order
) -> Drawings:
    """Draws a group of images for each caption; the condition is computed once per caption."""
    return image.draw(backbone, params, order.request, keys(order.stream, images), sampler)


def view(backbone: Backbone, processor: Processor, params: Params, viewing: Viewing) -> Prompt:
    """B * L prompts of one drawing each."""
    pixels = viewing.pixels.reshape(-1, *viewing.pixels.shape[2:])
    features = backbone.encode_image(params, processor.view(pixels))
    return replace(_repeat(viewing.frame, viewing.pixels.shape[1]), features=features)


@dataclass(frozen=True)
class Lengths:
    """The most tokens that a text of each sort may have, its stop token included.

    Attributes:
      question: what the Proposer asks.
      answer: what the Solver says to a question.
      caption: what is said about a picture, and prompts.
      spec: questions on a caption, with their answers.
    """

    question: int = bounded(40, least=1)
    answer: int = bounded(16, least=1)
    caption: int = bounded(64, least=1)
    spec: int = bounded(160, least=1)


def ask_about(
    backbone: Backbone,
    processor: Processor,
    lengths: Lengths,
    facts: frozenset[str],
    params: Params,
    inquiry: Inquiry,
) -> Replies:
    """Answers about drawings and captions of them, on one prefix per drawing.

    Args:
      backbone: static under jit.
      processor: static under jit.
      lengths: static under jit.
      facts: which fields of the replies are wanted; static under jit.
      params: the judge's.
      inquiry: the drawings and the questions.
    """
    images = inquiry.viewing.pixels.shape[1]
    seen = view(backbone, processor, params, inquiry.viewing)
    prefix = backbone.prefill(params, seen)
    count = inquiry.temperature.shape[1] + 1
    of_texts = keys(inquiry.stream, images * count).reshape(-1, count)

    def sample(texts: Texts, temperature: Array, of_texts: Array, tokens: int) -> TextRollout:
        texts, temperature = _repeat((texts, temperature), images)
        sampler = TextSampler(temperature, tokens, processor.stop_ids)
        return sample_text(backbone, params, prefix, texts.ids, texts.mask, of_texts, sampler)

    answers = captions = probability = None
    if "probability" in facts:
        asked, wanted = _repeat((inquiry.reference_questions, inquiry.references), images)
        scored = score(backbone, params, seen, asked, wanted)
        probability = answer_probability(scored.plain_log_prob, wanted.mask)
    if "answers" in facts:
        answers = sample(inquiry.questions, inquiry.temperature, of_texts[:, 1:], lengths.answer)
    if "captions" in facts:
        told, temperature = inquiry.describe, inquiry.caption_temperature
        captions = sample(told, temperature, of_texts[:, :1], lengths.caption)
    replies = Replies(answers, captions, probability)
    return jax.tree.map(lambda x: x.reshape(-1, images, *x.shape[1:]), replies)


def remark(
    backbone: Backbone, processor: Processor, max_tokens: int, params: Params, batch: Remark
) -> Texts:
    """The likeliest continuation of texts about drawings, token by token; axes (B, L, G, N)."""
    images = batch.viewing.pixels.shape[1]
    prefix = backbone.prefill(params, view(backbone, processor, params, batch.viewing))
    texts = _repeat(batch.texts, images)
    shape = texts.ids.shape[:2]
    sampler = TextSampler(jnp.zeros(shape), max_tokens, processor.stop_ids)
    unused = jax.random.split(jax.random.key(0), shape)
    said = sample_text(backbone, params, prefix, texts.ids, texts.mask, unused, sampler).texts
    return jax.tree.map(lambda x: x.reshape(-1, images, *x.shape[1:]), said)


def compare(
    backbone: Backbone,
    processor: Processor,
    facts: frozenset[str],
    params: Params,
    batch: Comparison,
) -> Likeness:
    """Embeddings and likelihoods by which drawings, prompts and captions are compared.

    (Ask, Solve, Generate, arXiv 2606.27376, cycle score.)

    Args:
      backbone: static under jit.
      processor: static under jit.
      facts: which fields of the likeness are wanted; static under jit.
      params: the model that compares; without an adapter the frozen one.
      batch: what is compared.
    """
    images = batch.viewing.pixels.shape[1]
    group = lambda x: x.reshape(-1, images, *x.shape[1:])
    seen = view(backbone, processor, params, batch.viewing)
    prompts = captions = pictures = likelihood = features = None
    if facts & {"captions", "pictures"}:
        prompts = embed(backbone, params, batch.prompts)
    if "captions" in facts:
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch.captions)
        captions = group(embed(backbone, params, flat))
    if "pictures" in facts:
        pictures = group(embedding(backbone.states(params, seen), seen.slot >= 0))
    if "likelihood" in facts:
        likelihood = _explained(backbone, params, seen, batch.describe, batch.drawn, images)
    if "features" in facts:
        features = group(shown_features(seen))
    return Likeness(prompts, captions, pictures, likelihood, features)


def shown_features(seen: Prompt) -> Float[Array, "B F"]:
    """Normalised means of the features of pictures that stand in prompts."""
    features = seen.features
    assert features is not None  # `view` put them there
    shown = (seen.slot[..., None] == jnp.arange(features.shape[1])).any(-2)  # not padding
    return embedding(features, shown)


def explain(
    backbone: Backbone, processor: Processor, params: Params, batch: Explanation
) -> Float[Array, "B L"]:
    """Log-likelihood of each prompt as its drawings' caption, in nats per token."""
    seen = view(backbone, processor, params, batch.viewing)
    images = batch.viewing.pixels.shape[1]
    return _explained(backbone, params, seen, batch.describe, batch.drawn, images)


def _explained(
    backbone: Backbone, params: Params, seen: Prompt, describe: Texts, drawn: Texts, images: int
) -> Float[Array, "B L"]:
    told, drawn = _repeat((describe, drawn), images)
    scored = score(backbone, params, seen, told, drawn)
    return masked_mean(scored.plain_log_prob, drawn.mask, axis=-1).reshape(-1, images)


def embed(backbone: Backbone, params: Params, sentence: Sentence) -> Float[Array, "B D"]:
    """Normalised means of the final states at the words of each text."""
    return embedding(backbone.states(params, sentence.prompt), sentence.words)


def _repeat(tree: PyTree, images: int) -> PyTree:
    """Every row once for each drawing of its prompt."""
    return jax.tree.map(lambda x: jnp.repeat(x, images, axis=0), tree)
