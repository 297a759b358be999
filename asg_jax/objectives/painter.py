"""Drawn images as what a role learns from, under any parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from asg_jax.backbone import (
    Adapter,
    Backbone,
    Bits,
    Draw,
    Flow,
    Params,
    PyTree,
    Request,
    Sampler,
    Target,
    encode,
)
from asg_jax.objectives.flow import drift, mean_square
from asg_jax.objectives.losses import Losses
from asg_jax.ops.bits import bit_entropy, bit_kl, bit_log_probs
from asg_jax.pytree import pytree
from asg_jax.rollout.image import Drawings, trace_moments


@pytree
class DrawingLesson:
    """Drawn images and how good they were.

    Attributes:
      request: the prompts.
      drawn: L images of each.
      advantages: how much better than expected each image was.
      kept: images that count.
      keys: one for each prompt, for the times and noise of flow losses.
      weights: one number per image token, for objectives that need them.
    """

    request: Request
    drawn: Drawings
    advantages: Float[Array, "B L"]
    kept: Bool[Array, "B L"]
    keys: Key[Array, " B"]
    weights: Float[Array, "B L T"] | None = None

    def pick(self, places: Int[Array, "B K"]) -> DrawingLesson:
        """The lesson of some drawings of each prompt, so that no others are computed."""
        own = lambda x: jnp.take_along_axis(x, places, axis=1)
        weights = self.weights
        if weights is not None:
            weights = jnp.take_along_axis(weights, places[..., None], axis=1)
        return replace(
            self,
            drawn=self.drawn.pick(places),
            advantages=own(self.advantages),
            kept=own(self.kept),
            weights=weights,
        )


@dataclass(frozen=True)
class Painter:
    """Whose drawings are learned from, and how they came about; static under jit but for params.

    Attributes:
      backbone: pure functions of parameters.
      sampler: settings that the images were drawn with.
      base: frozen parameters.
      anchor: factors of an older policy, for objectives that need it; preferences are measured
        from it, or from the frozen model without one.
    """

    backbone: Backbone
    sampler: Sampler
    base: PyTree
    anchor: Adapter | None = None

    def conditioned(self, lesson: DrawingLesson, adapter: Adapter | None) -> tuple[Params, PyTree]:
        """The prompts as an adapter reads them, under the keys that they were drawn with."""
        params = Params(self.base, adapter)
        prompts = encode(self.backbone, params, lesson.request)
        return params, self.backbone.condition(params, prompts, lesson.drawn.keys)

    def flow(
        self, lesson: DrawingLesson, draw: Draw, target: Target, adapter: Adapter | None
    ) -> Flow:
        """Velocities at noisy versions of the drawn images."""
        params, condition = self.conditioned(lesson, adapter)
        terms = self.backbone.terms(params, condition, target, draw)
        assert isinstance(terms, Flow)  # by the kind of the backbone
        return terms

    def logits(self, lesson: DrawingLesson, adapter: Adapter | None) -> Array:
        """Logits of the drawn bits, teacher-forced, as the sampler joined and softened them."""
        params, condition = self.conditioned(lesson, adapter)
        target = Target(lesson.drawn.values, self.sampler.grid)
        terms = self.backbone.terms(params, condition, target, None, self.sampler)
        assert isinstance(terms, Bits)  # by the kind of the backbone
        return terms.logits

    def moments(
        self, lesson: DrawingLesson, adapter: Adapter | None
    ) -> tuple[Float[Array, "S B L T C"], Float[Array, " S"]]:
        """Means and deviations of the recorded steps of a stochastic sampler.

        The last step is left out: it is deterministic.
        """
        params, condition = self.conditioned(lesson, adapter)

        def one(step: tuple[Array, Array]) -> tuple[Array, Array]:
            return trace_moments(self.backbone, params, condition, step[1], step[0], self.sampler)

        steps = self.sampler.steps - 1
        return jax.lax.map(jax.checkpoint(one), (jnp.arange(steps), recorded(lesson.drawn)[:steps]))


def recorded(drawn: Drawings) -> Float[Array, "S B L T C"]:
    """Latents before every step of a stochastic sampler, steps first; the end is left out."""
    assert drawn.latents is not None  # the sampler has noise
    return jnp.moveaxis(drawn.latents, 1, 0)[:-1]


def velocity_losses(
    painter: Painter,
    adapter: Adapter,
    lesson: DrawingLesson,
    draws: int,
    kept: Bool[Array, "B L"],
    value: Callable[..., Array],
) -> Losses:
    """Flow matching at the same times and noise for policy, older policy and frozen model."""
    values = lesson.drawn.values
    draw = times_and_noise(lesson.keys, values, draws, painter.sampler.shift)
    again = lambda x: jnp.concatenate([x] * draws, axis=1)
    target = Target(again(values), painter.sampler.grid)
    at = lambda adapter: painter.flow(lesson, draw, target, adapter).prediction
    now, still = at(adapter), jax.lax.stop_gradient(at(None))
    old = None if painter.anchor is None else at(painter.anchor)
    advantages, kept = again(lesson.advantages), again(kept)
    return Losses(
        values=value(now, still, old, draw, draw.noise - target.values, advantages, kept),
        kept=kept,
        drift=drift(now, still) / mean_square(still),
        measures={"advantage": jnp.abs(advantages)},
    )


def bit_losses(
    painter: Painter,
    adapter: Adapter,
    lesson: DrawingLesson,
    value: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> Losses:
    """The bits that were sampled, teacher-forced under policy and frozen model."""
    bits, old = lesson.drawn.values, lesson.drawn.log_probs
    assert old is not None  # by the kind of the backbone
    now = painter.logits(lesson, adapter)
    still = jax.lax.stop_gradient(painter.logits(lesson, None))
    values, kept = value(now, still, bits)
    gap = jnp.abs(bit_log_probs(now, bits) - old)
    of_image = lambda x: x.mean((-2, -1))
    measures = {
        "advantage": jnp.abs(lesson.advantages),
        "entropy": of_image(bit_entropy(now)),
        "mismatch": of_image(gap),
        "mismatch_max": gap.max((-2, -1)),
    }
    return Losses(values, kept, of_image(bit_kl(now, still)), measures)


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
      shift: t = shift s / (1 + (shift - 1) s) for an even time s.
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
