"""Objectives of roles that speak. Drift is the exact KL in nats per token, at temperature 1."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Adapter, Backbone, Params, PyTree, Request, encode
from asg_jax.objectives.kl import k3
from asg_jax.objectives.losses import Losses, Objective
from asg_jax.objectives.policy_gradient import Means, grpo_loss, reinforce_loss
from asg_jax.objectives.preference import dpo_scores, pairwise_losses
from asg_jax.ops.masked import Scalar, masked_mean, sequence_means
from asg_jax.ops.vocab import TokenStats, token_stats
from asg_jax.pytree import pytree
from asg_jax.ranges import bounded
from asg_jax.rollout.text import TextRollout, Texts, predicting_states


@pytree
class Said:
    """What a role said (G samples of each example), and to what.

    Attributes:
      request: the pictures that it saw.
      texts: what it was told, between the pictures and its words.
      rollout: its words, sampled at temperatures above 0 where they are to be learned from.
    """

    request: Request
    texts: Texts
    rollout: TextRollout

    def pick(self, places: Int[Array, "B K"]) -> Said:
        """Some samples of each example, so that no others are computed."""
        own = lambda x: jnp.take_along_axis(
            x, places.reshape(*places.shape, *[1] * (x.ndim - 2)), axis=1
        )
        texts, rollout = jax.tree.map(own, (self.texts, self.rollout))
        return Said(self.request, texts, rollout)


@pytree
class TextLesson:
    """Sampled texts and how good they were.

    Attributes:
      said: the texts.
      advantages: how much better than expected each of them was.
      kept: texts that count.
    """

    said: Said
    advantages: Float[Array, "B G"]
    kept: Bool[Array, "B G"]


@dataclass(frozen=True)
class GRPO(Objective):
    """Clipped policy gradient with the k3 penalty. (GRPO, arXiv 2402.03300.)

    A rollout serves one update, so the ratio is taken against the policy's own stopped value, which
    rounding cannot move; sampler and trainer are two programs whose log-probs differ in bfloat16.

    Attributes:
      clip: the ratio acts within [1 - clip, 1 + clip].
      correction: largest weight, trainer's probability over sampler's, by which a token counts; 0
        leaves the gap between the two uncorrected. (Truncated importance sampling.)
    """

    name = "grpo"
    clip: float = bounded(0.2, above=0, below=1)
    correction: float = bounded(0.0, least=0)

    def loss(
        self, stats: TokenStats, sampled: Array, advantages: Array, mask: Array, beta: Scalar
    ) -> Means:
        """Loss of every text; arguments as in `objectives.policy_gradient.grpo_loss`."""
        now = stats.log_prob
        kl = k3(now, _given(stats.reference_log_prob))
        weighted = corrected(self.correction, now, sampled, mask)
        stopped = jax.lax.stop_gradient(now)
        return grpo_loss(advantages, now, stopped, kl, mask, beta, self.clip, weighted)


@dataclass(frozen=True)
class Reinforce(Objective):
    """Plain policy gradient with the exact KL as penalty; a baseline is in the advantages."""

    name = "reinforce"

    def loss(
        self, stats: TokenStats, sampled: Array, advantages: Array, mask: Array, beta: Scalar
    ) -> Means:
        """Loss of every text; see `GRPO.loss`."""
        return reinforce_loss(advantages, stats.log_prob, _given(stats.kl), mask, beta)


@dataclass(frozen=True)
class Imitation(Objective):
    """Cross-entropy of the texts that are kept, with the exact KL as penalty."""

    name = "imitation"
    imitates = True

    def loss(
        self, stats: TokenStats, sampled: Array, advantages: Array, mask: Array, beta: Scalar
    ) -> Means:
        """Loss of every text; see `GRPO.loss`."""
        ones = jnp.ones_like(advantages)
        return reinforce_loss(ones, stats.log_prob, _given(stats.kl), mask, beta)


@dataclass(frozen=True)
class DPO(Objective):
    """Direct preference optimisation, and cross-entropy of the preferred texts.

    (DPO, arXiv 2305.18290.) The frozen model is the reference; it is in the margin, so that the
    coefficient of the drift does not act.

    Attributes:
      beta: multiplies the margin, above 0.
      nll: weight of the preferred texts' cross-entropy per token.
    """

    name = "dpo"
    beta: float = bounded(0.1, above=0)
    nll: float = bounded(0.0, least=0)

    def loss(
        self, stats: TokenStats, sampled: Array, advantages: Array, mask: Array, beta: Scalar
    ) -> Means:
        """Loss of every preferred text; see `GRPO.loss`."""
        total = lambda x: jnp.where(mask, x, 0).sum(-1)
        reference = jax.lax.stop_gradient(_given(stats.reference_log_prob))
        scores = dpo_scores(total(stats.log_prob), total(reference), self.beta)
        values, kept = pairwise_losses(scores, advantages, mask.any(-1))
        return values - self.nll * masked_mean(stats.log_prob, mask, axis=-1), kept


@dataclass(frozen=True)
class SimPO(Objective):
    """Preference by log-likelihoods per token, without a reference. (SimPO, arXiv 2405.14734.)

    Attributes:
      beta: multiplies the difference of log-likelihoods per token, above 0.
      gamma: what beta times the difference should be at least.
    """

    name = "simpo"
    beta: float = bounded(2.0, above=0)
    gamma: float = bounded(0.5, least=0)

    def loss(
        self, stats: TokenStats, sampled: Array, advantages: Array, mask: Array, beta: Scalar
    ) -> Means:
        """Loss of every preferred text; see `GRPO.loss`."""
        means = masked_mean(stats.log_prob, mask, axis=-1)
        return pairwise_losses(self.beta * means, advantages, mask.any(-1), self.gamma)


TextObjective = GRPO | Reinforce | Imitation | DPO | SimPO


def text_losses(
    objective: TextObjective,
    backbone: Backbone,
    base: PyTree,
    adapter: Adapter,
    lesson: TextLesson,
    beta: Scalar,
) -> Losses:
    """The losses of a role's texts; the prefix of an example is computed once for all of them.

    (Ask, Solve, Generate, arXiv 2606.27376, understanding step.)

    Args:
      objective: static under jit.
      backbone: static under jit.
      base: frozen parameters.
      adapter: the role's; what the gradient is taken of.
      lesson: what was said.
      beta: coefficient of the penalty.
    """
    said, params, frozen = lesson.said, Params(base, adapter), Params(base)
    stats = token_stats(
        text_states(backbone, params, said),
        backbone.unembedding(params),
        said.rollout.ids,
        temperature=said.rollout.temperature,
        reference=(text_states(backbone, frozen, said), backbone.unembedding(frozen)),
    )
    mask = said.rollout.mask & lesson.kept[..., None]
    sampled = said.rollout.log_probs
    values, kept = objective.loss(stats, sampled, lesson.advantages, mask, beta)
    gap = jnp.abs(stats.log_prob - sampled)
    measures = {
        "advantage": jnp.abs(lesson.advantages),
        "entropy": masked_mean(stats.entropy, mask, axis=-1),
        "mismatch": masked_mean(gap, mask, axis=-1),
        "mismatch_max": jnp.where(mask, gap, 0).max(-1),
    }
    return Losses(values, kept, sequence_means(_given(stats.kl), mask)[0], measures)


def text_states(backbone: Backbone, params: Params, said: Said) -> Float[Array, "B G N D"]:
    """The final states that predict the tokens of what was said."""
    prompt = encode(backbone, params, said.request).main
    return predicting_states(backbone, params, prompt, said.texts, said.rollout.texts)


def corrected(
    largest: float, now: Float[Array, "*b T"], sampled: Float[Array, "*b T"], mask: Array
) -> Float[Array, "*b T"] | None:
    """Weights min(p / p_sampler, largest) of tokens, without gradient; None for a largest of 0."""
    if largest == 0:
        return None
    ratio = jnp.exp(jnp.where(mask, jax.lax.stop_gradient(now) - sampled, 0))
    return jnp.minimum(ratio, largest)


def _given(statistic: Array | None) -> Array:
    assert statistic is not None  # it is there wherever a reference was given
    return statistic
