"""Objectives of a role that draws. (Ask, Solve, Generate, arXiv 2606.27376, generation step.)

Drift of flow backbones is relative: the mean square of the change of velocities over that of the
frozen model's velocities (of the steps' means in `FlowGRPO`: KL in nats per element). Drift of bits
is the exact KL in nats per bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

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
    Sampler,
    Target,
    encode,
)
from asg_jax.objectives.bits import bits_grpo_loss, bits_likelihood_loss
from asg_jax.objectives.flow import drift, flow_grpo_loss, mean_square, nft_loss, rwr_loss, step_kl
from asg_jax.objectives.losses import Losses
from asg_jax.objectives.texts import corrected
from asg_jax.ops.bits import bit_entropy, bit_kl, bit_log_probs
from asg_jax.ops.flow import gaussian_log_prob
from asg_jax.ops.masked import Scalar
from asg_jax.pytree import pytree
from asg_jax.ranges import bounded
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
    """

    request: Request
    drawn: Drawings
    advantages: Float[Array, "B L"]
    kept: Bool[Array, "B L"]
    keys: Key[Array, " B"]


@dataclass(frozen=True)
class Painter:
    """Whose drawings are learned from, and how they came about; static under jit but for params.

    Attributes:
      backbone: pure functions of parameters.
      sampler: settings that the images were drawn with.
      base: frozen parameters.
      anchor: factors of an older policy, for objectives that need it.
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
        """Logits of the drawn bits, teacher-forced."""
        params, condition = self.conditioned(lesson, adapter)
        target = Target(lesson.drawn.values, self.sampler.grid)
        terms = self.backbone.terms(params, condition, target, None)
        assert isinstance(terms, Bits)  # by the kind of the backbone
        return terms.logits


@dataclass(frozen=True)
class RWR:
    """Flow matching on the drawn images, the better ones with more weight.

    Prompts whose drawings are equally good are left out: all that they could teach is the sampler's
    own guidance.

    Attributes:
      temperature: makes the weights L softmax(advantages / temperature) sharp (low) or even (high).
      draws: pairs of time and noise per image.
    """

    name: ClassVar[str] = "rwr"
    kinds: ClassVar[tuple[str, ...]] = ("flow",)
    imitates: ClassVar[bool] = False
    anchored: ClassVar[bool] = False
    temperature: float = bounded(1.0, above=0)
    draws: int = bounded(1, least=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every image, `draws` times side by side."""

        def value(now, still, old, draw, goal, advantages, kept):
            return rwr_loss(now, goal, still, advantages, kept, beta, self.temperature)

        tell_apart = (lesson.kept & (lesson.advantages != 0)).any(-1, keepdims=True)
        return _velocities(painter, adapter, lesson, self.draws, lesson.kept & tell_apart, value)


@dataclass(frozen=True)
class NFT:
    """Towards good images and, mirrored at an older policy, away from bad ones.

    (DiffusionNFT, arXiv 2509.16117.)

    Attributes:
      draws: pairs of time and noise per image.
      decay: how much of the older policy's factors an update keeps.
    """

    name: ClassVar[str] = "nft"
    kinds: ClassVar[tuple[str, ...]] = ("flow",)
    imitates: ClassVar[bool] = False
    anchored: ClassVar[bool] = True
    draws: int = bounded(1, least=1)
    decay: float = bounded(0.9, least=0, below=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """See `RWR.losses`."""

        def value(now, still, old, draw, goal, advantages, kept):
            return nft_loss(now, old, goal, still, draw.t, advantages, beta)

        return _velocities(painter, adapter, lesson, self.draws, lesson.kept, value)


@dataclass(frozen=True)
class DrawingImitation:
    """Flow matching on the images that are kept, or the cross-entropy of their bits.

    Attributes:
      draws: pairs of time and noise per image (flow backbones).
    """

    name: ClassVar[str] = "drawing_imitation"
    kinds: ClassVar[tuple[str, ...]] = ("flow", "bits")
    imitates: ClassVar[bool] = True
    anchored: ClassVar[bool] = False
    draws: int = bounded(1, least=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """See `RWR.losses`."""
        if painter.backbone.spec.kind == "bits":
            return _bits(
                painter,
                adapter,
                lesson,
                lambda now, still, bits: bits_likelihood_loss(now, still, bits, lesson.kept, beta),
            )

        def value(now, still, old, draw, goal, advantages, kept):
            return mean_square(now - goal) + beta * drift(now, still)

        return _velocities(painter, adapter, lesson, self.draws, lesson.kept, value)


@dataclass(frozen=True)
class FlowGRPO:
    """GRPO over the recorded steps of a stochastic sampler. (Flow-GRPO, arXiv 2505.05470.)

    Attributes:
      clip: the ratio acts within [1 - clip, 1 + clip].
    """

    name: ClassVar[str] = "flow_grpo"
    kinds: ClassVar[tuple[str, ...]] = ("flow",)
    imitates: ClassVar[bool] = False
    anchored: ClassVar[bool] = False
    clip: float = bounded(0.2, above=0, below=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every image, over all steps but the last, which is deterministic."""
        drawn, sampler = lesson.drawn, painter.sampler
        assert drawn.latents is not None and drawn.log_probs is not None  # the sampler has noise
        steps = sampler.steps - 1
        latents = jnp.moveaxis(drawn.latents, 1, 0)[: steps + 1]

        def moments(adapter: Adapter | None) -> tuple[Array, Array]:
            params, condition = painter.conditioned(lesson, adapter)

            def one(step: tuple[Array, Array]) -> tuple[Array, Array]:
                return trace_moments(painter.backbone, params, condition, step[1], step[0], sampler)

            return jax.lax.map(jax.checkpoint(one), (jnp.arange(steps), latents[:-1]))

        still = jax.lax.stop_gradient(moments(None)[0])
        mean, std = moments(adapter)
        values, kept = flow_grpo_loss(
            latents[1:], mean, still, std, lesson.advantages, lesson.kept, beta, self.clip
        )
        kl = jax.vmap(step_kl)(mean, still, std).mean(0)
        sampled = jnp.moveaxis(drawn.log_probs, 1, 0)[:steps]
        gap = jnp.abs(jax.vmap(gaussian_log_prob)(latents[1:], mean, std) - sampled)
        measures = {
            "advantage": jnp.abs(lesson.advantages),
            "mismatch": gap.mean(0),
            "mismatch_max": gap.max(0),
        }
        return Losses(values, kept, kl, measures)


@dataclass(frozen=True)
class BitsGRPO:
    """GRPO whose tokens are the sampled bits.

    Attributes:
      clip: the ratio acts within [1 - clip, 1 + clip].
      correction: see `objectives.texts.GRPO`.
    """

    name: ClassVar[str] = "bits_grpo"
    kinds: ClassVar[tuple[str, ...]] = ("bits",)
    imitates: ClassVar[bool] = False
    anchored: ClassVar[bool] = False
    clip: float = bounded(0.2, above=0, below=1)
    correction: float = bounded(0.0, least=0)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every image."""
        old = lesson.drawn.log_probs
        assert old is not None  # by the kind of the backbone
        counts = jnp.broadcast_to(lesson.kept[..., None, None], old.shape)

        def value(now: Array, still: Array, bits: Array) -> tuple[Array, Array]:
            weights = corrected(self.correction, bit_log_probs(now, bits), old, counts)
            return bits_grpo_loss(
                now, still, bits, lesson.advantages, lesson.kept, beta, self.clip, weights
            )

        return _bits(painter, adapter, lesson, value)


DrawingObjective = RWR | NFT | FlowGRPO | BitsGRPO | DrawingImitation


def fault(objective: DrawingObjective, kind: str, sampler: Sampler) -> str:
    """Why an objective does not train what a sampler draws on a kind of backbone; else empty."""
    if kind not in objective.kinds:
        known = [one.name for one in DrawingObjective.__args__ if kind in one.kinds]
        return (
            f"objective '{objective.name}' does not train a backbone of kind '{kind}'; "
            f"choose one of: {', '.join(known)}"
        )
    if objective.name == FlowGRPO.name and (sampler.noise_level <= 0 or sampler.guidance > 1):
        return (
            "flow_grpo learns from a stochastic sampler without guidance; set sampler.noise_level"
            " above 0 and sampler.guidance to 1"
        )
    if kind == "bits" and (sampler.guidance > 1 or sampler.temperature != 1 or sampler.top_p < 1):
        return (
            "bits are learned from under the distribution that they were drawn from; set"
            " sampler.guidance, sampler.temperature and sampler.top_p to 1"
        )
    return ""


def _velocities(
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


def _bits(
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
