"""The programs that look at pictures in their plain form, as a simple port would have them.

One picture and one text at a time, the picture encoded anew for each, all logits of a text at
once. Results are those of `asg_jax.engine.programs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.backbone import Backbone, Params, Processor, PyTree, Request, encode
from asg_jax.engine import programs, scoring
from asg_jax.engine.programs import (
    Comparison,
    Explanation,
    Inquiry,
    Lengths,
    Likeness,
    Replies,
    Sentence,
    Talk,
    Viewing,
    keys,
)
from asg_jax.engine.scoring import DrawnPoll, Poll, Telling
from asg_jax.rollout.text import TextRollout, Texts, TextSampler, join, sample_text
from asg_jax.signals.verdicts import YesNo

Looked = Any  # a program's only picture as a prompt


def at(tree: PyTree, *place: int) -> PyTree:
    """One example, or one sample of one, with axes of length 1."""
    index = tuple(slice(n, n + 1) for n in place)
    return jax.tree.map(lambda x: x[index], tree)


def stack(rows: list[PyTree], *shape: int) -> PyTree:
    """Results of single samples as an array with axes `shape` in front."""
    return jax.tree.map(lambda *x: jnp.stack(x).reshape(*shape, *x[0].shape), *rows)


@partial(jax.jit, static_argnums=(0, 1))
def _look(backbone: Backbone, processor: Processor, params: Params, viewing: Viewing) -> Looked:
    return programs.view(backbone, processor, params, viewing)


@partial(jax.jit, static_argnums=0)
def _see(backbone: Backbone, params: Params, request: Request) -> Looked:
    return encode(backbone, params, request).main


@partial(jax.jit, static_argnums=0)
def _log_probs(
    backbone: Backbone, params: Params, prompt: Looked, before: Texts, after: Texts
) -> jax.Array:
    """Log-probs of the tokens of one text, from all its logits."""
    joined = join(before, after)
    hidden = backbone.hidden(params, prompt, joined.ids, joined.mask)[0, 0]
    logits = jnp.einsum("td,vd->tv", hidden, backbone.unembedding(params)).astype(jnp.float32)
    rows = before.mask.sum() + jnp.arange(after.ids.shape[-1])
    known = jnp.take_along_axis(jax.nn.log_softmax(logits)[rows], after.ids[0, 0, :, None], 1)[:, 0]
    return jnp.where(after.mask[0, 0], known, 0)


@partial(jax.jit, static_argnums=(0, 5, 6))
def _sample(
    backbone: Backbone,
    params: Params,
    prompt: Looked,
    asked: tuple[Texts, jax.Array],
    key: jax.Array,
    tokens: int,
    stop_ids: tuple[int, ...],
) -> TextRollout:
    texts, temperature = asked
    sampler = TextSampler(temperature, tokens, stop_ids)
    prefix = backbone.prefill(params, prompt)
    return sample_text(backbone, params, prefix, texts.ids, texts.mask, key, sampler)


_embed = jax.jit(programs.embed, static_argnums=0)
_states = jax.jit(
    lambda backbone, params, prompt: programs.embedding(
        backbone.states(params, prompt), prompt.slot >= 0
    ),
    static_argnums=0,
)


_poll = jax.jit(scoring.answer, static_argnums=0)
_features = jax.jit(programs.shown_features)


def continue_texts(
    backbone: Backbone, max_tokens: int, stop_ids: tuple[int, ...], params: Params, talk: Talk
) -> TextRollout:
    """See `asg_jax.engine.programs.continue_texts`."""
    count, samples = talk.temperature.shape
    own = keys(talk.stream, samples)

    def one(b: int, g: int) -> TextRollout:
        prompt = _see(backbone, params, at(talk.request, b))
        asked = at((talk.texts, talk.temperature), b, g)
        return _sample(backbone, params, prompt, asked, at(own, b, g), max_tokens, stop_ids)

    rows = [_bare(one(b, g)) for b, g in np.ndindex(count, samples)]
    return stack(rows, count, samples)


def _bare(rollout: TextRollout) -> TextRollout:
    """The only text of a rollout, without its axes."""
    return jax.tree.map(lambda x: x[0, 0], rollout)


def ask_about(
    backbone: Backbone,
    processor: Processor,
    lengths: Lengths,
    facts: frozenset[str],
    params: Params,
    inquiry: Inquiry,
) -> Replies:
    """See `asg_jax.engine.programs.ask_about`."""
    count, images = inquiry.viewing.pixels.shape[:2]
    questions, checks = inquiry.temperature.shape[1], inquiry.references.ids.shape[1]
    own = keys(inquiry.stream, images * (questions + 1)).reshape(count, images, -1)
    look = partial(_drawing, backbone, processor, params, inquiry.viewing)

    def answer(b: int, n: int, q: int) -> TextRollout:
        asked, key = (
            at((inquiry.questions, inquiry.temperature), b, q),
            own[b, n, 1 + q][None, None],
        )
        tokens = lengths.answer, processor.stop_ids
        return _bare(_sample(backbone, params, look(b, n), asked, key, *tokens))

    def caption(b: int, n: int, _: int) -> TextRollout:
        asked, key = (
            at((inquiry.describe, inquiry.caption_temperature), b),
            own[b, n, 0][None, None],
        )
        tokens = lengths.caption, processor.stop_ids
        return _bare(_sample(backbone, params, look(b, n), asked, key, *tokens))

    def probability(b: int, n: int, m: int) -> jax.Array:
        before, after = at((inquiry.reference_questions, inquiry.references), b, m)
        known = _log_probs(backbone, params, look(b, n), before, after)
        return programs.answer_probability(known, after.mask[0, 0])

    def every(fact: str, one: Callable[[int, int, int], PyTree], several: int) -> PyTree:
        if fact not in facts:
            return None
        shape = count, images, several
        return stack([one(*place) for place in np.ndindex(*shape)], *shape)

    return Replies(
        answers=every("answers", answer, questions),
        captions=every("captions", caption, 1),
        probability=every("probability", probability, checks),
    )


def compare(
    backbone: Backbone,
    processor: Processor,
    facts: frozenset[str],
    params: Params,
    batch: Comparison,
) -> Likeness:
    """See `asg_jax.engine.programs.compare`."""
    count, images = batch.viewing.pixels.shape[:2]
    look = partial(_drawing, backbone, processor, params, batch.viewing)
    embed = lambda sentence: _embed(backbone, params, sentence)[0]

    def caption(b: int, n: int) -> jax.Array:
        own: Sentence = jax.tree.map(lambda x: x[b, n][None], batch.captions)
        return embed(own)

    def likelihood(b: int, n: int) -> jax.Array:
        before, after = at((batch.describe, batch.drawn), b)
        known = _log_probs(backbone, params, look(b, n), before, after)
        return known.sum() / jnp.maximum(after.mask.sum(), 1)

    def every(fact: str, one: Callable[[int, int], jax.Array]) -> Any:
        if fact not in facts:
            return None
        return stack([one(*place) for place in np.ndindex(count, images)], count, images)

    prompts = None
    if facts & {"captions", "pictures"}:
        prompts = stack([embed(at(batch.prompts, b)) for b in range(count)], count)
    return Likeness(
        prompts=prompts,
        captions=every("captions", caption),
        pictures=every("pictures", lambda b, n: _states(backbone, params, look(b, n))[0]),
        likelihood=every("likelihood", likelihood),
        features=every("features", lambda b, n: _features(look(b, n))[0]),
    )


def _drawing(
    backbone: Backbone, processor: Processor, params: Params, viewing: Viewing, b: int, n: int
) -> Looked:
    """One drawing as a prompt, encoded anew."""
    one = replace(at(viewing, b), pixels=at(viewing.pixels, b, n))
    return _look(backbone, processor, params, one)


def explain(
    backbone: Backbone, processor: Processor, params: Params, batch: Explanation
) -> jax.Array:
    """See `asg_jax.engine.programs.explain`."""
    count, images = batch.viewing.pixels.shape[:2]
    look = partial(_drawing, backbone, processor, params, batch.viewing)

    def one(b: int, n: int) -> jax.Array:
        before, after = at((batch.describe, batch.drawn), b)
        known = _log_probs(backbone, params, look(b, n), before, after)
        return known.sum() / jnp.maximum(after.mask.sum(), 1)

    return stack([one(*place) for place in np.ndindex(count, images)], count, images)


def ask_drawings(
    backbone: Backbone, processor: Processor, params: Params, batch: DrawnPoll
) -> YesNo:
    """See `asg_jax.engine.scoring.ask_drawings`."""
    count, images = batch.viewing.pixels.shape[:2]
    questions = batch.poll.right.shape[1]
    look = partial(_drawing, backbone, processor, params, batch.viewing)

    def one(b: int, n: int, q: int) -> YesNo:
        poll: Poll = at(batch.poll, b, q)
        found = _poll(backbone, params, look(b, n), poll)
        return jax.tree.map(lambda x: x[0, 0], found)

    shape = count, images, questions
    return stack([one(*place) for place in np.ndindex(*shape)], *shape)


def ask_apart(
    backbone: Backbone, processor: Processor, params: Params, batch: DrawnPoll
) -> tuple[YesNo, ...]:
    """See `asg_jax.engine.scoring.ask_apart`."""
    found = ask_drawings(backbone, processor, params, batch)
    return tuple(YesNo(found.yes[..., n], found.no[..., n]) for n in range(found.yes.shape[-1]))


def tell(backbone: Backbone, params: Params, batch: Telling) -> jax.Array:
    """See `asg_jax.engine.scoring.tell`."""
    shape = batch.told.ids.shape[:2]

    def one(b: int, g: int) -> jax.Array:
        before, after = at((batch.told, batch.said), b, g)
        seen = _see(backbone, params, at(batch.request, b))
        known = _log_probs(backbone, params, seen, before, after)
        return known.sum() / jnp.maximum(after.mask.sum(), 1)

    return stack([one(*place) for place in np.ndindex(*shape)], *shape)


def features(
    backbone: Backbone, processor: Processor, params: Params, viewing: Viewing
) -> jax.Array:
    """See `asg_jax.engine.scoring.features`."""
    count, images = viewing.pixels.shape[:2]
    look = partial(_drawing, backbone, processor, params, viewing)
    rows = [_features(look(*place))[0] for place in np.ndindex(count, images)]
    return stack(rows, count, images)


def unseen(backbone: Backbone, params: Params, request: Request) -> Request:
    """The request as it is: whoever needs its pictures encodes them."""
    return request


PLAIN: dict[Callable[..., Any], Callable[..., Any]] = {
    programs.see: unseen,
    programs.continue_texts: continue_texts,
    programs.ask_about: ask_about,
    programs.compare: compare,
    programs.explain: explain,
    scoring.ask_drawings: ask_drawings,
    scoring.ask_apart: ask_apart,
    scoring.features: features,
    scoring.tell: tell,
}
