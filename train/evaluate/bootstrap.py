"""Confidence intervals of scores and of differences between them: a bootstrap over pictures.

Items of one picture are drawn together: several questions share it, and a model that misreads it
errs on all of them. So are drawings of one prompt, which comes more than once in a set. Models that
answered the same items share the resamples, which makes their difference a paired one. What varies
is the items; the models, and the runs that made them, are taken as given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from asg_jax.train.evaluate.outcomes import Outcomes, statistics

RESAMPLES = 2000
TAILS = (2.5, 97.5)  # percentiles: 95 % lie between


class Interval(NamedTuple):
    """A score or a difference of scores, in points of 100, with its 95 % interval."""

    value: float
    low: float
    high: float


class Term(NamedTuple):
    """A weighted measure in a sum of measures."""

    weight: float
    outcomes: Outcomes
    measure: str


@lru_cache(maxsize=8)
def resamples(seed: int, clusters: int) -> Float[np.ndarray, "resamples clusters"]:
    """How often each cluster occurs in each resample; a function of its arguments."""
    rng = np.random.default_rng([seed, clusters])
    counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)
    return counts.astype(np.float32)  # exact, and fast to multiply


def contrast(terms: Sequence[Term]) -> dict[str, Interval]:
    """Every statistic of a sum of measures: of one model, or of a difference between several.

    Args:
      terms: one or more.

    Returns:
      Intervals by the name of the statistic, of those that all terms have.
    """
    shares = [_shares(term.outcomes, term.measure) for term in terms]
    weights = [term.weight for term in terms]
    common = [name for name in shares[0] if all(name in other for other in shares)]
    return {
        name: interval(np.tensordot(weights, [own[name] for own in shares], axes=1))
        for name in common
    }


def _shares(outcomes: Outcomes, measure: str) -> dict[str, Float[np.ndarray, "1+resamples"]]:
    """Each statistic of the items as they are, and then of all resamples, in points."""
    found = [s for s in statistics(outcomes, measure) if s.counts.any()]
    clusters = int(outcomes.clusters.max()) + 1
    counted = np.zeros((2, clusters, len(found)), np.float32)
    has = np.stack([s.has for s in found], axis=1)
    counts = np.stack([s.counts for s in found], axis=1)
    np.add.at(counted[0], outcomes.clusters, has)
    np.add.at(counted[1], outcomes.clusters, counts)
    drawn = np.concatenate([np.ones((1, clusters), np.float32), resamples(outcomes.seed, clusters)])
    with np.errstate(invalid="ignore"):  # a resample may hold nothing of a small group
        shares = 100 * (drawn @ counted[0]) / (drawn @ counted[1])
    return {s.name: shares[:, n] for n, s in enumerate(found)}


def interval(shares: Float[np.ndarray, "1+resamples"]) -> Interval:
    """A statistic of the items as they are, with the interval of its resamples."""
    low, high = np.nanpercentile(shares[1:], TAILS)
    return Interval(float(shares[0]), float(low), float(high))
