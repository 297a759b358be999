"""Yes or no about a picture: probabilities without sampling, and statistics of verdicts.

SILMM (arXiv 2412.05818), UniGen CoT-V (arXiv 2505.14682), dMLLM-TTS (arXiv 2512.19433), SEER (arXiv
2601.20305), Internal Gap (arXiv 2507.16663).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.ops.masked import masked_mean


class YesNo(NamedTuple):
    """Probabilities of a first token of yes and of one of no; they need not sum to 1."""

    yes: Float[Array, "*batch"]
    no: Float[Array, "*batch"]

    @property
    def preference(self) -> Float[Array, "*batch"]:
        """p(yes) among the two, in [0, 1]; 1/2 where neither has any."""
        total = self.yes + self.no
        known = total > 0
        return jnp.where(known, self.yes / jnp.where(known, total, 1), 0.5)


def yes_no(
    logits: Float[Array, "*batch V"],
    yes_ids: Int[Array, "*#batch K"],
    no_ids: Int[Array, "*#batch N"],
) -> YesNo:
    """Pools the spellings of yes and of no, each by its first token.

    Args:
      logits: scores of the first token of an answer, over the vocabulary.
      yes_ids: first tokens of the spellings of yes, each once; negative ones do not count.
      no_ids: those of no.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    def pool(ids: Array) -> Array:
        ids = jnp.broadcast_to(ids, (*logits.shape[:-1], ids.shape[-1]))
        chosen = jnp.take_along_axis(log_probs, jnp.maximum(ids, 0), axis=-1)
        return jnp.where(ids >= 0, jnp.exp(chosen), 0).sum(-1)

    return YesNo(pool(yes_ids), pool(no_ids))


def yes_probability(
    logit_yes: Float[Array, "*batch"], logit_no: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """p(yes) among two answers of one token each."""
    return jax.nn.sigmoid(logit_yes - logit_no)


def question_margin(
    yes: Float[Array, "*batch Q"], no: Float[Array, "*batch Q"], asked: Bool[Array, "*#batch #Q"]
) -> Float[Array, "*batch"]:
    """Mean of p(yes) - p(no) over the questions that a prompt is taken apart into, in [-1, 1].

    (SILMM, score of an image; 0 without questions.)
    """
    return masked_mean(yes - no, asked, axis=-1)


def share_of_yes(
    said_yes: Bool[Array, "*batch Q"], asked: Bool[Array, "*#batch #Q"]
) -> Float[Array, "*batch"]:
    """How many of the questions were answered with yes, of 1; 0 without any. (UniGen CoT-V.)"""
    return masked_mean(said_yes.astype(float), asked, axis=-1)


def non_unification(
    accepted: Bool[Array, "*batch"], mask: Bool[Array, "*#batch"]
) -> Float[Array, ""]:
    """Share of a model's own pictures that it does not take for their prompts. (Internal Gap.)

    A low score need not be good: who says yes to everything has 0.
    """
    return masked_mean(1 - accepted.astype(float), mask)


def weak_generation(accepted: Bool[Array, " N"], judged: Bool[Array, " N"]) -> Float[Array, ""]:
    """Share of the refused pictures that another judge refuses too: NaN if none was refused.

    Where it is high the model understands better than it draws. (Internal Gap.)
    """
    return masked_mean(1 - judged.astype(float), ~accepted, empty=jnp.nan)


def win_rate(
    before: Bool[Array, " N"], after: Bool[Array, " N"], judged: Bool[Array, " N"]
) -> Float[Array, ""]:
    """Where verdicts before and after training differ, how often the later one is the judge's.

    1/2 where they never differ. (Internal Gap.)
    """
    return masked_mean((after == judged).astype(float), before != after, empty=0.5)


def comparison_reward(well_formed: bool, predicted: str, label: str) -> tuple[float, float]:
    """Format and accuracy of a comparison of two pictures, each 0 or 1. (SEER, first stage.)"""
    return float(well_formed), float(predicted == label)
