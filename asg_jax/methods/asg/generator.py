"""Losses of the Generator, one for each kind of backbone. (arXiv 2606.27376, generation step.)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from asg_jax.backbone import (
    Adapter,
    Backbone,
    Bits,
    Draw,
    Flow,
    Params,
    PyTree,
    Request,
    Target,
    encode,
)
from asg_jax.methods.asg.rollouts import Drawings
from asg_jax.methods.asg.settings import Settings
from asg_jax.methods.asg.updates import Loss, Measured, Metrics
from asg_jax.objectives.bits import (
    bits_grpo_loss,
    bits_likelihood_loss,
    surrogate_log_probs,
    surrogate_loss,
)
from asg_jax.objectives.flow import drift, flow_grpo_loss, nft_loss, rwr_loss, step_kl
from asg_jax.ops.bits import bit_entropy, bit_kl, bit_log_probs
from asg_jax.ops.vocab import token_stats
from asg_jax.pytree import pytree
from asg_jax.rollout.image import trace_moments
from asg_jax.signals.groups import masked_mean


@pytree
class Lesson:
    """What the Generator drew, and how it is to be judged.

    Attributes:
      request: the captions.
      drawing: L images of each.
      advantages: of the images within their groups.
      mask: images that count.
      keys: one for each caption.
    """

    request: Request
    drawing: Drawings
    advantages: Float[Array, "B L"]
    mask: Bool[Array, "B L"]
    keys: Key[Array, " B"]


class Frozen(NamedTuple):
    """What stays as it is: the base parameters, and the older policy of `nft`."""

    base: PyTree
    anchor: Adapter


def generator_loss(
    backbone: Backbone,
    settings: Settings,
    frozen: Frozen,
    lesson: Lesson,
    beta: float | Array,
) -> Loss:
    """The loss of the Generator's adapter by the objective of the settings."""
    return _LOSSES[backbone.spec.kind](backbone, settings, frozen, lesson, beta)


def _flow(
    backbone: Backbone, settings: Settings, frozen: Frozen, lesson: Lesson, beta: float | Array
) -> Loss:
    if settings.objective == "flow_grpo" and settings.update == "reward":
        return _sampler_steps(backbone, settings, frozen, lesson, beta)
    return _velocities(backbone, settings, frozen, lesson, beta)


def _velocities(
    backbone: Backbone, settings: Settings, frozen: Frozen, lesson: Lesson, beta: float | Array
) -> Loss:
    """Flow matching at the same times and noise for policy, older policy and frozen model.

    With equal advantages `rwr` is plain flow matching on the images that count (`sft`).
    """
    grid, count = settings.sampler.grid, settings.draws
    draw = times_and_noise(lesson.keys, lesson.drawing.values, count, settings.sampler.shift)
    again = lambda x: jnp.concatenate([x] * count, axis=1)
    target = Target(again(lesson.drawing.values), grid)
    advantages, mask = again(lesson.advantages), again(lesson.mask)

    def flow(adapter: Adapter | None) -> Flow:
        params, condition = _conditioned(backbone, frozen, lesson, adapter)
        terms = backbone.terms(params, condition, target, draw)
        assert isinstance(terms, Flow)  # by the kind of the backbone
        return terms

    metrics = _metrics(lesson)
    still = flow(None).prediction
    mirror = settings.objective == "nft" and settings.update == "reward"
    old = flow(frozen.anchor).prediction if mirror else None

    def loss(adapter: Adapter) -> tuple[Array, Measured]:
        now, goal = flow(adapter).prediction, draw.noise - target.values
        if old is None:
            tau = settings.rwr_temperature
            value = rwr_loss(now, goal, still, advantages, mask, beta, tau)
        else:
            value = nft_loss(now, old, goal, still, draw.t, advantages, mask, beta)
        return value, Measured(drift(now, still), mask, metrics)

    return loss


def _sampler_steps(
    backbone: Backbone, settings: Settings, frozen: Frozen, lesson: Lesson, beta: float | Array
) -> Loss:
    """GRPO over the recorded steps of the stochastic sampler."""
    drawing, sampler = lesson.drawing, settings.sampler
    assert drawing.latents is not None and drawing.log_probs is not None  # `check` saw to it
    steps = sampler.steps - 1  # the step to t = 0 is deterministic
    latents = jnp.moveaxis(drawing.latents, 1, 0)[: steps + 1]
    old = jnp.moveaxis(drawing.log_probs, 1, 0)[:steps]

    def moments(adapter: Adapter | None) -> tuple[Array, Array]:
        params, condition = _conditioned(backbone, frozen, lesson, adapter)

        def one(step: tuple[Array, Array]) -> tuple[Array, Array]:
            return trace_moments(backbone, params, condition, step[1], step[0], sampler)

        return jax.lax.map(jax.checkpoint(one), (jnp.arange(steps), latents[:-1]))

    metrics = _metrics(lesson)
    still = moments(None)[0]

    def loss(adapter: Adapter) -> tuple[Array, Measured]:
        mean, std = moments(adapter)
        value = flow_grpo_loss(
            latents[1:],
            mean,
            still,
            std,
            old,
            lesson.advantages,
            lesson.mask,
            beta,
            settings.clip,
        )
        kl = jax.vmap(step_kl)(mean, still, std).mean(0)
        return value, Measured(kl, lesson.mask, metrics)

    return loss


def _bits(
    backbone: Backbone, settings: Settings, frozen: Frozen, lesson: Lesson, beta: float | Array
) -> Loss:
    if settings.objective == "surrogate" and settings.update == "reward":
        return _read_again(backbone, settings, frozen, lesson, beta)
    return _sampled_bits(backbone, settings, frozen, lesson, beta)


def _sampled_bits(
    backbone: Backbone, settings: Settings, frozen: Frozen, lesson: Lesson, beta: float | Array
) -> Loss:
    """The bits that were sampled, teacher-forced: GRPO, or their likelihood (`sft`)."""
    drawing, mask = lesson.drawing, lesson.mask
    assert drawing.log_probs is not None  # by the kind of the backbone
    bits, old = drawing.values, drawing.log_probs
    target = Target(bits, settings.sampler.grid)

    def logits(adapter: Adapter | None) -> Array:
        params, condition = _conditioned(backbone, frozen, lesson, adapter)
        terms = backbone.terms(params, condition, target, None)
        assert isinstance(terms, Bits)  # by the kind of the backbone
        return terms.logits

    still = logits(None)

    def loss(adapter: Adapter) -> tuple[Array, Measured]:
        now = logits(adapter)
        if settings.update == "sft":
            value = bits_likelihood_loss(now, still, bits, mask, beta)
        else:
            value = bits_grpo_loss(
                now, still, bits, old, lesson.advantages, mask, beta, settings.clip
            )
        apart = jnp.abs(bit_log_probs(now, bits) - old)
        metrics = _metrics(lesson) | {
            "entropy": masked_mean(_image_means(bit_entropy(now)), mask),
            "mismatch": jnp.where(mask[..., None, None], apart, 0).max(),
        }
        return value, Measured(_image_means(bit_kl(now, still)), mask, metrics)

    return loss


def _read_again(
    backbone: Backbone, settings: Settings, frozen: Frozen, lesson: Lesson, beta: float | Array
) -> Loss:
    """The official code's loss: on bits that are read off the decoded pictures, flipped at random.

    The prompt's own tokens count, too; the one after the picture, which it adds, does not.
    """
    drawing, mask = lesson.drawing, lesson.mask
    pixels = drawing.pictures.reshape(-1, *drawing.pictures.shape[2:]) / 255
    of_policy, of_frozen = jax.random.split(lesson.keys[0])

    def log_probs(adapter: Adapter | None, key: Array) -> Array:
        params, condition = _conditioned(backbone, frozen, lesson, adapter)
        target = backbone.encode_target(params, pixels, key)
        values = target.values.reshape(*mask.shape, *target.values.shape[1:])
        terms = backbone.terms(params, condition, replace(target, values=values), None)
        assert isinstance(terms, Bits)  # by the kind of the backbone
        prompt = encode(backbone, params, lesson.request).main
        states, table = backbone.states(params, prompt), backbone.unembedding(params)
        said = token_stats(states[:, :-1], table, prompt.ids[:, 1:]).log_prob
        text = masked_mean(said, prompt.mask[:, 1:], axis=-1)
        return surrogate_log_probs(text, bit_log_probs(terms.logits, terms.bits))

    metrics = _metrics(lesson)
    still = log_probs(None, of_frozen)

    def loss(adapter: Adapter) -> tuple[Array, Measured]:
        now = log_probs(adapter, of_policy)
        value = surrogate_loss(now, still, lesson.advantages, mask, beta, settings.clip)
        return value, Measured(jnp.maximum(now - still, 0), mask, metrics)

    return loss


def _conditioned(
    backbone: Backbone, frozen: Frozen, lesson: Lesson, adapter: Adapter | None
) -> tuple[Params, PyTree]:
    """The captions as an adapter of the Generator reads them."""
    params = Params(frozen.base, adapter)
    prompts = encode(backbone, params, lesson.request)
    return params, backbone.condition(params, prompts, lesson.keys[0])


def _image_means(x: Float[Array, "B L tokens C"]) -> Float[Array, "B L"]:
    return x.mean((-2, -1))


def _metrics(lesson: Lesson) -> Metrics:
    return {"advantage": masked_mean(jnp.abs(lesson.advantages), lesson.mask)}


_LOSSES: dict[str, Callable[..., Loss]] = {"flow": _flow, "bits": _bits}


def times_and_noise(
    keys: Key[Array, " B"], values: Float[Array, "B L T C"], count: int, shift: float
) -> Draw:
    """Times and noise of a flow loss, the same for all images of a group.

    The times of one group lie evenly, one in each part of [0, 1], and are shifted as those of the
    sampler.

    Args:
      keys: one for each group.
      values: the images.
      count: pairs of time and noise for each image; they come one after another.
      shift: of the sampler's times.
    """
    _, images, tokens, channels = values.shape

    def own(key: Key[Array, ""]) -> tuple[Array, Array]:
        time, noise = jax.random.split(key)
        even = (jnp.arange(count) + jax.random.uniform(time, (count,))) / count
        return even, jax.random.normal(noise, (count, tokens, channels))

    s, noise = jax.vmap(own)(keys)
    t = shift * s / (1 + (shift - 1) * s)
    same = lambda x: jnp.repeat(x, images, axis=1)
    return Draw(same(t), same(noise))
