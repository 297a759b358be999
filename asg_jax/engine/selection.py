"""What an update takes of a group: which samples, and how they are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from asg_jax.objectives.advantages import POPULATION, GroupStatistic, group_advantages
from asg_jax.ranges import bounded
from asg_jax.signals.selection import Pairs, accepted_pair, extremes


class Choice(NamedTuple):
    """Samples to learn from.

    Attributes:
      places: which K samples of each group; None is all of them, in their order.
      advantages: one number per chosen sample; positive ones are preferred to negative ones.
      kept: which of them count.
    """

    places: Int[Array, "B K"] | None
    advantages: Float[Array, "B K"]
    kept: Bool[Array, "B K"]


def _opposed(pairs: Pairs) -> Choice:
    ones = jnp.ones(pairs.better.shape)
    join = lambda better, worse: jnp.concatenate([better, worse], axis=-1)
    return Choice(
        join(pairs.better, pairs.worse), join(ones, -ones), join(pairs.exists, pairs.exists)
    )


@dataclass(frozen=True)
class Everyone:
    """All samples, each by its advantage.

    Attributes:
      statistic: what makes rewards comparable.
    """

    name: ClassVar[str] = "everyone"
    least: ClassVar[int] = 1
    statistic: GroupStatistic = POPULATION

    def choose(self, rewards: Float[Array, "B G"], mask: Bool[Array, "B G"]) -> Choice:
        """The choice among samples that exist."""
        return Choice(None, group_advantages(rewards, mask, self.statistic), mask)


@dataclass(frozen=True)
class Extremes:
    """The best samples of a group against the worst.

    Attributes:
      count: how many of the best, and as many of the worst, at least 1.
      min_gap: a pair needs rewards that differ by more.
    """

    name: ClassVar[str] = "extremes"
    count: int = bounded(1, least=1)
    min_gap: float = bounded(0.0, least=0)

    @property
    def least(self) -> int:
        """Samples that a group needs."""
        return 2 * self.count

    def choose(self, rewards: Float[Array, "B G"], mask: Bool[Array, "B G"]) -> Choice:
        """See `Everyone.choose`."""
        return _opposed(extremes(rewards, mask, self.count, self.min_gap))


@dataclass(frozen=True)
class Accepted:
    """All samples whose reward reaches a threshold, alike."""

    name: ClassVar[str] = "accepted"
    least: ClassVar[int] = 1
    threshold: float = 0.5

    def choose(self, rewards: Float[Array, "B G"], mask: Bool[Array, "B G"]) -> Choice:
        """See `Everyone.choose`."""
        return Choice(None, jnp.ones(rewards.shape), mask & (rewards >= self.threshold))


@dataclass(frozen=True)
class AcceptedPair:
    """The highest reward above a threshold against the lowest below it."""

    name: ClassVar[str] = "accepted_pair"
    least: ClassVar[int] = 2
    threshold: float = 0.5

    def choose(self, rewards: Float[Array, "B G"], mask: Bool[Array, "B G"]) -> Choice:
        """See `Everyone.choose`."""
        return _opposed(accepted_pair(rewards, mask, self.threshold))


Selection = Everyone | Extremes | Accepted | AcceptedPair
