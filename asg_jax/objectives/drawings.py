"""Objectives of a role that draws. (Ask, Solve, Generate, arXiv 2606.27376, generation step.)

Drift of flow backbones is relative: the mean square of the change of velocities over that of the
frozen model's velocities (of the steps' means in `FlowGRPO`: KL in nats per element). Drift of bits
is the exact KL in nats per bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from asg_jax.backbone import Adapter, Sampler
from asg_jax.objectives.bits import bits_grpo_loss, bits_likelihood_loss
from asg_jax.objectives.drawing_preferences import (
    DrawingDPO,
    DrawingSimPO,
    FeatureDPO,
    Regional,
)
from asg_jax.objectives.flow import drift, flow_grpo_loss, mean_square, nft_loss, rwr_loss, step_kl
from asg_jax.objectives.losses import Losses, Objective
from asg_jax.objectives.painter import (
    DrawingLesson,
    Painter,
    bit_losses,
    recorded,
    velocity_losses,
)
from asg_jax.objectives.texts import corrected
from asg_jax.ops.bits import bit_log_probs
from asg_jax.ops.flow import gaussian_log_prob
from asg_jax.ops.masked import Scalar
from asg_jax.ranges import bounded


@dataclass(frozen=True)
class RWR(Objective):
    """Flow matching on the drawn images, the better ones with more weight.

    Prompts whose drawings are equally good are left out: all that they could teach is the sampler's
    own guidance.

    Attributes:
      temperature: makes the weights L softmax(advantages / temperature) sharp (low) or even (high).
      draws: pairs of time and noise per image.
    """

    name = "rwr"
    kinds = ("flow",)
    temperature: float = bounded(1.0, above=0)
    draws: int = bounded(1, least=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every image, `draws` times side by side."""

        def value(now, still, old, draw, goal, advantages, kept):
            return rwr_loss(now, goal, still, advantages, kept, beta, self.temperature)

        tell_apart = (lesson.kept & (lesson.advantages != 0)).any(-1, keepdims=True)
        return velocity_losses(
            painter, adapter, lesson, self.draws, lesson.kept & tell_apart, value
        )


@dataclass(frozen=True)
class NFT(Objective):
    """Towards good images and, mirrored at an older policy, away from bad ones.

    (DiffusionNFT, arXiv 2509.16117.)

    Attributes:
      draws: pairs of time and noise per image.
      decay: how much of the older policy's factors an update keeps.
    """

    name = "nft"
    kinds = ("flow",)
    anchored = True
    draws: int = bounded(1, least=1)
    decay: float = bounded(0.9, least=0, below=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """See `RWR.losses`."""

        def value(now, still, old, draw, goal, advantages, kept):
            return nft_loss(now, old, goal, still, draw.t, advantages, beta)

        return velocity_losses(painter, adapter, lesson, self.draws, lesson.kept, value)


@dataclass(frozen=True)
class DrawingImitation(Objective):
    """Flow matching on the images that are kept, or the cross-entropy of their bits.

    Attributes:
      draws: pairs of time and noise per image (flow backbones).
    """

    name = "drawing_imitation"
    imitates = True
    draws: int = bounded(1, least=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """See `RWR.losses`."""
        if painter.backbone.spec.kind == "bits":
            return bit_losses(
                painter,
                adapter,
                lesson,
                lambda now, still, bits: bits_likelihood_loss(now, still, bits, lesson.kept, beta),
            )

        def value(now, still, old, draw, goal, advantages, kept):
            return mean_square(now - goal) + beta * drift(now, still)

        return velocity_losses(painter, adapter, lesson, self.draws, lesson.kept, value)


@dataclass(frozen=True)
class FlowGRPO(Objective):
    """GRPO over the recorded steps of a stochastic sampler. (Flow-GRPO, arXiv 2505.05470.)

    Attributes:
      clip: the ratio acts within [1 - clip, 1 + clip].
    """

    name = "flow_grpo"
    kinds = ("flow",)
    clip: float = bounded(0.2, above=0, below=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every image, over all steps but the last, which is deterministic."""
        after = recorded(lesson.drawn)[1:]
        still = jax.lax.stop_gradient(painter.moments(lesson, None)[0])
        mean, std = painter.moments(lesson, adapter)
        values, kept = flow_grpo_loss(
            after, mean, still, std, lesson.advantages, lesson.kept, beta, self.clip
        )
        kl = jax.vmap(step_kl)(mean, still, std).mean(0)
        assert lesson.drawn.log_probs is not None  # the sampler has noise
        sampled = jnp.moveaxis(lesson.drawn.log_probs, 1, 0)[:-1]
        gap = jnp.abs(jax.vmap(gaussian_log_prob)(after, mean, std) - sampled)
        measures = {
            "advantage": jnp.abs(lesson.advantages),
            "mismatch": gap.mean(0),
            "mismatch_max": gap.max(0),
        }
        return Losses(values, kept, kl, measures)


@dataclass(frozen=True)
class BitsGRPO(Objective):
    """GRPO whose tokens are the sampled bits.

    Attributes:
      clip: the ratio acts within [1 - clip, 1 + clip].
      correction: see `objectives.texts.GRPO`.
    """

    name = "bits_grpo"
    kinds = ("bits",)
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

        return bit_losses(painter, adapter, lesson, value)


DrawingObjective = (
    RWR
    | NFT
    | FlowGRPO
    | BitsGRPO
    | DrawingImitation
    | DrawingDPO
    | DrawingSimPO
    | FeatureDPO
    | Regional
)


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
    if getattr(objective, "likelihood", "") == "steps" and sampler.noise_level <= 0:
        return (
            "likelihoods by steps need a stochastic sampler; set sampler.noise_level above 0 and"
            " sampler.guidance to 1"
        )
    if kind == "bits" and sampler.top_p < 1:
        return (
            "bits are learned from under the distribution that they were drawn from, which must"
            " leave none out; set sampler.top_p to 1"
        )
    return ""
