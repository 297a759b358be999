"""Solver token entropy (STE): how unsure the Solver is inside one greedy answer.

It stays high on answers that are consistent but wrong, where a vote says nothing. (Ask, Solve,
Generate, arXiv 2606.27376, understanding step.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from asg_jax.ops.masked import masked_mean
from asg_jax.ranges import bounded


@dataclass(frozen=True)
class Difficulty:
    """How token entropies are turned into a difficulty; entropies in nats.

    Attributes:
      tokens: first tokens of an answer whose entropy counts.
      aggregation: how they become one number; `mean` is the control of the paper's ablation.
      window: recent entropies that rank a new one; None is the larger of 128 and those of eight
        steps.
      ranked: fewest entropies in the window among which a percentile is taken.
      silent: entropies up to this carry no signal.
    """

    tokens: int = bounded(5, least=1)
    aggregation: Literal["max", "mean"] = "max"
    window: int | None = bounded(None, least=1)
    ranked: int = bounded(8, least=1)
    silent: float = 1e-6


PAPER = Difficulty()


def token_entropy(
    entropies: Float[Array, "*batch T"],
    answer: Bool[Array, "*batch T"],
    first: int = 5,
    aggregation: Literal["max", "mean"] = "max",
) -> Float[Array, "*batch"]:
    """Largest (or mean) entropy among the first tokens of an answer, in nats; 0 without tokens.

    Args:
      entropies: nats of the full next-token softmax at temperature 1.
      answer: which tokens belong to the answer; template tokens and the stop token do not.
      first: how many of these count.
      aggregation: `mean` is the control of the paper's ablation.
    """
    counted = answer & (jnp.cumsum(answer, axis=-1) <= first)
    if aggregation == "mean":
        return masked_mean(entropies, counted, axis=-1)
    return jnp.where(counted, entropies, 0).max(-1)


def window_size(images: int, candidates: int) -> int:
    """Entropies that the window holds: 128, or eight steps' worth where steps are large."""
    return max(128, 8 * images * candidates)


def empty_window(size: int) -> Float[Array, " {size}"]:
    """The window of recent entropies before the first step.

    The oldest entropy comes first. Empty slots are infinite, which is below no entropy.
    """
    return jnp.full(size, jnp.inf)


def ste_difficulty(
    window: Float[Array, " W"],
    entropy: Float[Array, "*batch"],
    answered: Bool[Array, "*batch"],
    numbers: Difficulty = PAPER,
) -> tuple[Float[Array, "*batch"], Float[Array, " W"]]:
    """Difficulty in [0, 1]: the percentile of an entropy among recent ones.

    All entropies of a step join the window first (in the order of the array, the oldest drop out);
    then each is ranked in it, ties below. Until the window holds enough, a sigmoid stands in.

    Args:
      window: recent entropies, see `empty_window`.
      entropy: token entropies of this step, in nats.
      answered: which of them exist. The others, and silent ones, get 0 and are not stored.
      numbers: thresholds.

    Returns:
      The difficulties, and the window with this step's entropies.
    """
    stored = answered & (entropy > numbers.silent)
    joined = jnp.concatenate([window, jnp.where(stored, entropy, jnp.inf).ravel()])
    oldest_first = jnp.argsort(jnp.isfinite(joined), stable=True)  # empty slots to the front
    window = joined[oldest_first[-window.size :]]
    count = jnp.isfinite(window).sum()
    rank = (window < entropy[..., None]).sum(-1) / jnp.maximum(count, 1)
    cold = jax.nn.sigmoid(1.5 * (entropy - 2))
    return jnp.where(stored, jnp.where(count >= numbers.ranked, rank, cold), 0), window
