"""Losses of the Generator, one for each kind of backbone. (arXiv 2606.27376, generation step.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from asg_jax.backbone import (
    Adapter,
    Backbone,
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
from asg_jax.objectives.flow import drift, flow_grpo_loss, nft_loss, rwr_loss, step_kl
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
        params = Params(frozen.base, adapter)
        prompts = encode(backbone, params, lesson.request)
        condition = backbone.condition(params, prompts, lesson.keys[0])
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
        params = Params(frozen.base, adapter)
        prompts = encode(backbone, params, lesson.request)
        condition = backbone.condition(params, prompts, lesson.keys[0])

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


def _metrics(lesson: Lesson) -> Metrics:
    return {"advantage": masked_mean(jnp.abs(lesson.advantages), lesson.mask)}


_LOSSES: dict[str, Callable[..., Loss]] = {"flow": _flow}


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
