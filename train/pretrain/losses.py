"""What pre-training minimises, for every backbone alike."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from asg_jax.backbone import Backbone, Bits, Draw, Flow, Params, PyTree, encode
from asg_jax.ops.bits import bit_log_probs
from asg_jax.ops.vocab import token_stats
from asg_jax.rollout.image import CONDITION
from asg_jax.train.pretrain.lessons import DrawLesson, TextLesson


def text_loss(backbone: Backbone, params: Params, lesson: TextLesson) -> Float[Array, ""]:
    """Cross-entropy of the targets in nats; the tokens of one weigh the root of their number."""
    prompt = encode(backbone, params, lesson.request).main
    hidden = backbone.hidden(params, prompt, lesson.ids, lesson.mask)
    stats = token_stats(hidden, backbone.unembedding(params), lesson.ids)
    count = lesson.target.sum(-1, keepdims=True)
    weights = jnp.where(lesson.target, 1 / jnp.sqrt(jnp.maximum(count, 1)), 0)
    return -jnp.sum(weights * stats.log_prob) / weights.sum()


def drawing_loss(
    backbone: Backbone,
    params: Params,
    lesson: DrawLesson,
    key: Key[Array, ""],
    draws: int,
    shift: float,
) -> Float[Array, ""]:
    """Error of the predicted velocity at shifted uniform times, or cross-entropy of the bits.

    Bits enter the network with random flips that later scales correct, others in every draw.
    """
    of_condition = jax.random.split(jax.random.fold_in(key, CONDITION), len(lesson.pixels))
    prompts = encode(backbone, params, lesson.request)
    condition = backbone.condition(params, prompts, of_condition)
    if backbone.spec.kind == "bits":
        return _bits_loss(backbone, params, condition, lesson, key, draws)
    target = backbone.encode_target(params, lesson.pixels, None)
    values = jnp.repeat(jax.lax.stop_gradient(target.values)[:, None], draws, axis=1)
    of_time, of_noise = jax.random.split(key)
    s = jax.random.uniform(of_time, values.shape[:2])
    draw = Draw(shift * s / (1 + (shift - 1) * s), jax.random.normal(of_noise, values.shape))
    terms = backbone.terms(params, condition, replace(target, values=values), draw)
    assert isinstance(terms, Flow)  # by the kind of the backbone
    return jnp.mean((terms.prediction - terms.goal) ** 2)


def _bits_loss(
    backbone: Backbone,
    params: Params,
    condition: PyTree,
    lesson: DrawLesson,
    key: Key[Array, ""],
    draws: int,
) -> Float[Array, ""]:
    pixels = jnp.repeat(lesson.pixels, draws, axis=0)
    target = backbone.encode_target(params, pixels, key)
    values = target.values.reshape(-1, draws, *target.values.shape[1:])
    terms = backbone.terms(params, condition, replace(target, values=values), None)
    assert isinstance(terms, Bits)  # by the kind of the backbone
    return -bit_log_probs(terms.logits, terms.bits).mean()
