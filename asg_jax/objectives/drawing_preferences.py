"""Objectives that prefer some drawings of a prompt to others, or some places of a drawing.

The log-likelihood of a drawing is defined per element, so that all of them share their formulas:

- bits: the mean log-probability of its bits, teacher-forced, in nats; exact.
- flows, by `draws`: minus the squared error of the velocity, mean over elements and over S pairs of
  time and noise. All drawings of a group, the policy and its reference have the same pairs, so that
  what differs is the drawings. (Diffusion-DPO, arXiv 2311.12908, with common random numbers.)
- flows, by `steps`: the mean log-density of the steps that a stochastic sampler took, per element;
  exact for the trajectory.

DPO multiplies it by the number of elements, as it does with the tokens of a text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from asg_jax.backbone import Adapter, Target
from asg_jax.objectives.flow import drift, mean_square, regional_loss, step_kl
from asg_jax.objectives.losses import Losses, Objective
from asg_jax.objectives.painter import (
    DrawingLesson,
    Painter,
    recorded,
    times_and_noise,
    velocity_losses,
)
from asg_jax.objectives.preference import (
    Distance,
    Pool,
    dpo_scores,
    feature_distance,
    pairwise_losses,
)
from asg_jax.ops.bits import bit_kl, bit_log_probs
from asg_jax.ops.flow import gaussian_log_prob
from asg_jax.ops.masked import Scalar
from asg_jax.ranges import bounded

Likelihood = Literal["draws", "steps"]


class LogLikelihoods(NamedTuple):
    """How likely drawings are, per element.

    Attributes:
      now: the policy's.
      reference: the same of the model that preferences are measured from.
      drift: distance of the two, in the unit of `asg_jax.objectives.drawings`.
    """

    now: Float[Array, "B L"]
    reference: Float[Array, "B L"]
    drift: Float[Array, "B L"]


def log_likelihoods(
    painter: Painter, adapter: Adapter, lesson: DrawingLesson, draws: int, by: Likelihood
) -> LogLikelihoods:
    """The log-likelihoods of a lesson's drawings; see the head of this file.

    Args:
      painter: its anchor is the reference; without one, the frozen model.
      adapter: the policy's factors.
      lesson: the drawings.
      draws: pairs of time and noise (flows, by draws).
      by: how a flow's likelihood is measured.
    """
    still, values = jax.lax.stop_gradient, lesson.drawn.values
    if painter.backbone.spec.kind == "bits":
        logits = painter.logits(lesson, adapter)
        frozen = still(painter.logits(lesson, painter.anchor))
        each = lambda x: bit_log_probs(x, values).mean((-2, -1))
        return LogLikelihoods(each(logits), each(frozen), bit_kl(logits, frozen).mean((-2, -1)))
    if by == "steps":
        (mean, std), frozen = (
            painter.moments(lesson, adapter),
            still(painter.moments(lesson, painter.anchor)[0]),
        )
        after = recorded(lesson.drawn)[1:]
        each = lambda x: jax.vmap(gaussian_log_prob)(after, x, std).mean(0)
        return LogLikelihoods(
            each(mean), each(frozen), jax.vmap(step_kl)(mean, frozen, std).mean(0)
        )
    now, frozen, goal, _ = predictions(painter, adapter, lesson, draws)
    each = lambda x: -mean_square(x - goal).mean(0)
    return LogLikelihoods(
        each(now), each(frozen), (drift(now, frozen) / mean_square(frozen)).mean(0)
    )


def predictions(
    painter: Painter, adapter: Adapter, lesson: DrawingLesson, draws: int
) -> tuple[Array, Array, Array, Array]:
    """Velocities of policy and reference at shared draws, the right ones, and the times.

    Returns:
      Arrays of axes (draws, B, L, tokens, channels), the times without the last two.
    """
    values = lesson.drawn.values
    draw = times_and_noise(lesson.keys, values, draws, painter.sampler.shift)
    target = Target(jnp.concatenate([values] * draws, axis=1), painter.sampler.grid)
    at = lambda adapter: painter.flow(lesson, draw, target, adapter).prediction
    now, frozen = at(adapter), jax.lax.stop_gradient(at(painter.anchor))
    apart = lambda x: jnp.stack(jnp.split(x, draws, axis=1))
    return apart(now), apart(frozen), apart(draw.noise - target.values), apart(draw.t)


def _preferring(
    scores: Array, gained: Array, lesson: DrawingLesson, moved: Array, gamma: float = 0.0
) -> Losses:
    """The losses of the preferred drawings (see `pairwise_losses` for scores and gamma).

    What each drawing gained on the reference tells on which side of it the policy puts it.
    """
    values, kept = pairwise_losses(scores, lesson.advantages, lesson.kept, gamma)
    right = jnp.sign(gained) == jnp.sign(lesson.advantages)
    measures = {"advantage": jnp.abs(lesson.advantages), "preferred": right.astype(gained.dtype)}
    return Losses(values, kept, moved, measures)


@dataclass(frozen=True)
class DrawingDPO(Objective):
    """Direct preference optimisation of drawings, and cross-entropy of the preferred ones.

    The reference is in the margin: the coefficient of the drift does not act.

    Attributes:
      beta: multiplies the margin, above 0.
      nll: weight of minus the log-likelihood per element of the preferred drawings.
      draws: pairs of time and noise per drawing (flow backbones).
      likelihood: how a flow's drawings get theirs; see the head of this file.
    """

    name = "drawing_dpo"
    beta: float = bounded(0.1, above=0)
    nll: float = bounded(0.0, least=0)
    draws: int = bounded(4, least=1)
    likelihood: Likelihood = "draws"

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every preferred drawing."""
        found = log_likelihoods(painter, adapter, lesson, self.draws, self.likelihood)
        elements = math.prod(lesson.drawn.values.shape[-2:])
        scores = dpo_scores(elements * found.now, elements * found.reference, self.beta)
        losses = _preferring(scores, scores, lesson, found.drift)
        return replace(losses, values=losses.values - self.nll * found.now)


@dataclass(frozen=True)
class DrawingSimPO(Objective):
    """Preference by log-likelihoods per element, without a reference. (SimPO, arXiv 2405.14734.)

    Attributes:
      beta: multiplies the difference of log-likelihoods, above 0.
      gamma: what beta times the difference should be at least.
      draws, likelihood: see `DrawingDPO`.
    """

    name = "drawing_simpo"
    beta: float = bounded(2.0, above=0)
    gamma: float = bounded(0.5, least=0)
    draws: int = bounded(4, least=1)
    likelihood: Likelihood = "draws"

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every preferred drawing."""
        found = log_likelihoods(painter, adapter, lesson, self.draws, self.likelihood)
        gained = found.now - found.reference
        return _preferring(self.beta * found.now, gained, lesson, found.drift, self.gamma)


@dataclass(frozen=True)
class FeatureDPO(Objective):
    """DPO whose log-likelihood is minus a distance of features. (KC-DPO, arXiv 2412.05818.)

    The features are what the model predicts of a drawing from what it is given of it: on flows the
    clean image at shared draws of time and noise, on bits the probability of 1 of every bit,
    teacher-forced. With unpooled squared distances this is DPO of Gaussians.

    Attributes:
      gamma: multiplies the margin, above 0.
      pool: how features are joined over image tokens before they are compared.
      distance: how far apart features are.
      draws: pairs of time and noise per drawing (flow backbones).
    """

    name = "feature_dpo"
    gamma: float = bounded(10.0, above=0)
    pool: Pool = "mean"
    distance: Distance = "cosine"
    draws: int = bounded(4, least=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every preferred drawing."""
        sampled = lesson.drawn.values
        far = lambda x: feature_distance(x, sampled.astype(x.dtype), self.pool, self.distance)
        if painter.backbone.spec.kind == "bits":
            logits = painter.logits(lesson, adapter)
            frozen = jax.lax.stop_gradient(painter.logits(lesson, painter.anchor))
            likely = lambda x: jax.nn.softmax(x)[..., 1]
            now, still = far(likely(logits)), far(likely(frozen))
            moved = bit_kl(logits, frozen).mean((-2, -1))
        else:
            velocity, frozen, goal, t = predictions(painter, adapter, lesson, self.draws)
            # x_t - t v, where the right velocity would give the drawing itself
            clean = lambda v: sampled + t[..., None, None] * (goal - v)
            now, still = (jax.vmap(far)(clean(v)).mean(0) for v in (velocity, frozen))
            moved = (drift(velocity, frozen) / mean_square(frozen)).mean(0)
        scores = dpo_scores(-now, -still, self.gamma)
        return _preferring(scores, scores, lesson, moved)


@dataclass(frozen=True)
class Regional(Objective):
    """Flow matching on the drawn images, better places with more weight. (SRUM, arXiv 2510.12784.)

    Attributes:
      regularization: weight of plain flow matching beside it.
      draws: pairs of time and noise per drawing.
    """

    name = "regional"
    kinds = ("flow",)
    regularization: float = bounded(0.5, least=0)
    draws: int = bounded(1, least=1)

    def losses(
        self, painter: Painter, adapter: Adapter, lesson: DrawingLesson, beta: Scalar
    ) -> Losses:
        """The loss of every drawing; the lesson holds weights of its image tokens."""
        assert lesson.weights is not None  # the method that chose this objective gives them
        weights = jnp.concatenate([lesson.weights] * self.draws, axis=1)

        def value(now, still, old, draw, goal, advantages, kept):
            error = regional_loss(now, goal, weights, goal, self.regularization)
            return error + beta * drift(now, still)

        return velocity_losses(painter, adapter, lesson, self.draws, lesson.kept, value)
