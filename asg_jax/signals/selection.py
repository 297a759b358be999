"""Which samples of a group are learned from, and as what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Pairs(NamedTuple):
    """K better and K worse samples of each group, as places in it.

    Attributes:
      better: places of samples, the best first.
      worse: places of samples, the worst first.
      exists: which of the K pairs there are.
    """

    better: Int[Array, "*batch K"]
    worse: Int[Array, "*batch K"]
    exists: Bool[Array, "*batch K"]


def best_of(scores: Float[Array, "*batch N"], count: int) -> Int[Array, "*batch {count}"]:
    """Places of the highest scores, the best first; among equals the first one wins."""
    return jnp.argsort(-scores, axis=-1, stable=True)[..., :count]


def extremes(
    rewards: Float[Array, "*batch G"],
    mask: Bool[Array, "*#batch #G"],
    count: int = 1,
    min_gap: float = 0.0,
) -> Pairs:
    """The best against the worst. (SUDER, arXiv 2506.07963; SILMM, arXiv 2412.05818.)

    Args:
      rewards: one number per sample.
      mask: which of them exist.
      count: K; a sample is in one pair at most.
      min_gap: a pair needs rewards that differ by more.
    """
    mask = jnp.broadcast_to(mask, rewards.shape)
    better = best_of(jnp.where(mask, rewards, -jnp.inf), count)
    worse = best_of(jnp.where(mask, -rewards, -jnp.inf), count)
    at = lambda x, places: jnp.take_along_axis(x, places, axis=-1)
    gap = at(rewards, better) - at(rewards, worse)
    return Pairs(better, worse, at(mask, better) & at(mask, worse) & (gap > min_gap))


def accepted_pair(
    p_yes: Float[Array, "*batch G"], mask: Bool[Array, "*#batch #G"], threshold: float = 0.5
) -> Pairs:
    """The surest of what is accepted against the surest of what is refused.

    (Internal Gap, arXiv 2507.16663, data for DPO.)

    Args:
      p_yes: probability of acceptance.
      mask: which samples exist.
      threshold: least probability with which a sample is accepted, in [0, 1].
    """
    mask = jnp.broadcast_to(mask, p_yes.shape)
    accepted, refused = mask & (p_yes >= threshold), mask & (p_yes < threshold)
    better = best_of(jnp.where(accepted, p_yes, -jnp.inf), 1)
    worse = best_of(jnp.where(refused, -p_yes, -jnp.inf), 1)
    exists = accepted.any(-1, keepdims=True) & refused.any(-1, keepdims=True)
    return Pairs(better, worse, exists)


def sort_out(
    decisions: Sequence[Sequence[int]], prompts: Sequence[int]
) -> tuple[list[tuple[int, int]], list[int]]:
    """Self-accepted pictures to learn from, and the prompts that have none.

    On all prompts this is the making of the data, on those left over the curriculum replay.
    (Internal Gap, arXiv 2507.16663, algorithms 1 and 2.)

    Args:
      decisions: verdicts on the pictures of each prompt, 1 or 0.
      prompts: their numbers.

    Returns:
      (prompt, picture) of all that is accepted; the prompts that go to (or stay in) the pool.
    """
    table = np.array(decisions, bool).reshape(len(prompts), -1)
    chosen = [(prompts[n], k) for n, k in np.argwhere(table).tolist()]
    left = [prompt for prompt, row in zip(prompts, table, strict=True) if not row.any()]
    return chosen, left
