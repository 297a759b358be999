"""What a signal sees: how well its scores tell right samples from wrong ones, with intervals.

Samples come in groups, those of one text. Groups are what is resampled, for the samples of one text
share its difficulty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from asg_jax.train.evaluate.bootstrap import Interval, interval, resamples

RIGHT = "right"  # the kind of a sample with nothing wrong
BINS = 10  # of equally many samples, for calibration

Resampled = Float[np.ndarray, "1+resamples groups"]


class Truth(NamedTuple):
    """What is known of the samples of every group.

    Attributes:
      rank: the higher, the better; samples of equal rank are not compared.
      exists: samples that count; a group may have fewer than L.
      kinds: what is wrong with each sample, `RIGHT` where nothing is.
    """

    rank: Float[np.ndarray, "G L"]
    exists: Bool[np.ndarray, "G L"]
    kinds: Sequence[Sequence[str]]

    @property
    def right(self) -> Bool[np.ndarray, "G L"]:
        """Samples with nothing wrong."""
        return (np.array(self.kinds) == RIGHT) & self.exists

    def only(self, kind: str) -> Truth:
        """The right samples and those with one fault."""
        kinds = np.array(self.kinds)
        return self._replace(exists=self.exists & ((kinds == RIGHT) | (kinds == kind)))


Figures = dict[str, Float[np.ndarray, " 1+resamples"]]


def figures(scores: Float[np.ndarray, "G L"], truth: Truth, seed: int) -> Figures:
    """How well scores agree with the truth, in points of 100: as they are, and of all resamples.

    `auc`: a right sample of any group scores higher than a wrong one of any group; ties count half.
    `pairs`: the same of two samples of one group; `pairs/KIND` for one fault.
    `rank`: Spearman's correlation within groups whose samples differ in truth; 0 where all score
    alike.
    `flat`: groups in which all samples score alike, where no update can learn.
    `calibration`: distance of the scores from the share that is right, in ten bins of equally many
    samples; for scores in [0, 1] only.

    Args:
      scores: one number per sample; what does not exist may hold anything.
      truth: what is known of them.
      seed: gives the resamples.
    """
    drawn = _drawn(seed, len(scores))
    found: Figures = {
        "auc": _auc(scores, truth, drawn),
        "pairs": _ratio(_pairs(scores, truth), drawn),
        "rank": _ratio(_rank(scores, truth), drawn),
        "flat": _ratio(_flat(scores, truth), drawn),
    }
    faults = sorted({kind for row in truth.kinds for kind in row} - {RIGHT, ""})
    for kind in faults if truth.right.any() else ():
        found[f"pairs/{kind}"] = _ratio(_pairs(scores, truth.only(kind)), drawn)
    counted = scores[truth.exists]
    if truth.right.any() and counted.min() >= 0 and counted.max() <= 1:
        found["calibration"] = _calibration(scores, truth, drawn)
    return {name: 100 * x for name, x in found.items() if np.isfinite(x[0])}


def power(scores: Float[np.ndarray, "G L"], truth: Truth, seed: int) -> dict[str, Interval]:
    """The figures with 95 % intervals."""
    return {name: interval(x) for name, x in figures(scores, truth, seed).items()}


def change(
    scores: Float[np.ndarray, "G L"],
    truth: Truth,
    before: Float[np.ndarray, "G L"],
    known: Truth,
    seed: int,
) -> dict[str, Interval]:
    """What other scores of the same groups have changed, by figure; groups are resampled together.

    Args:
      scores: those that were found now.
      truth: what is known of these samples; drawings of other models differ in it.
      before: those that are subtracted.
      known: their truth.
      seed: gives the resamples.
    """
    now, then = figures(scores, truth, seed), figures(before, known, seed)
    return {name: interval(now[name] - then[name]) for name in now if name in then}


def share(
    values: Float[np.ndarray, "G L"], counted: Bool[np.ndarray, "G L"], seed: int
) -> Interval:
    """The mean of the samples that count, in points of 100, with its 95 % interval."""
    sums = np.where(counted, values, 0).sum(1), counted.sum(1).astype(float)
    return interval(100 * _ratio(sums, _drawn(seed, len(values))))


def correlation(
    first: Float[np.ndarray, "G L"],
    second: Float[np.ndarray, "G L"],
    counted: Bool[np.ndarray, "G L"],
    seed: int,
) -> Interval | None:
    """Spearman's of the samples that count, in points of 100, with its 95 % interval.

    Ranks are those among all samples; resamples weigh them.

    Returns:
      None where one of both is constant, or there are fewer than three samples.
    """
    x, y = first[counted], second[counted]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = rankdata(x), rankdata(y)
    weights = np.repeat(_drawn(seed, len(first)), counted.sum(1), axis=1).astype(float)
    total = weights.sum(1)
    mean = lambda z: weights @ z / total
    with np.errstate(invalid="ignore"):
        spread = np.sqrt((mean(x * x) - mean(x) ** 2) * (mean(y * y) - mean(y) ** 2))
    # In a resample one of both may be constant.
    unknown, together = np.full_like(spread, np.nan), mean(x * y) - mean(x) * mean(y)
    return interval(100 * np.divide(together, spread, out=unknown, where=spread > 0))


def decided(scores: Float[np.ndarray, "G L"], truth: Truth) -> float:
    """Pairs of one group that scores put in the right order, less those in the wrong one."""
    right, count = _pairs(scores, truth)
    return float((2 * right - count).sum())


def _drawn(seed: int, groups: int) -> Resampled:
    """How often each group counts: once, and then as in each resample."""
    return np.concatenate([np.ones((1, groups), np.float32), resamples(seed, groups)])


Counts = tuple[Float[np.ndarray, " G"], Float[np.ndarray, " G"]]


def _ratio(counts: Counts, drawn: Resampled) -> Float[np.ndarray, " 1+resamples"]:
    """Sums over the groups of every resample, divided."""
    above, below = counts
    with np.errstate(invalid="ignore"):  # no group may have what is counted
        return (drawn @ above) / (drawn @ below)


def _pairs(scores: Float[np.ndarray, "G L"], truth: Truth) -> Counts:
    """Pairs in the right order, ties half; and all pairs of different rank."""
    better = truth.rank[:, :, None] > truth.rank[:, None]
    better &= truth.exists[:, :, None] & truth.exists[:, None]
    gap = scores[:, :, None] - scores[:, None]
    right = np.where(better, (gap > 0) + 0.5 * (gap == 0), 0)
    return right.sum((1, 2)), better.sum((1, 2)).astype(float)


def _of_groups(
    scores: Float[np.ndarray, "G L"],
    truth: Truth,
    one: Callable[[np.ndarray, np.ndarray], tuple[float, bool]],
) -> Counts:
    """A number for each group, and whether it counts."""
    rows = zip(scores, truth.rank, truth.exists, strict=True)
    found = [one(own[real], rank[real]) if real.any() else (0, False) for own, rank, real in rows]
    values, count = np.array(found, float).T
    return values * count, count


def _rank(scores: Float[np.ndarray, "G L"], truth: Truth) -> Counts:
    def of_group(own: np.ndarray, rank: np.ndarray) -> tuple[float, bool]:
        differ = bool(np.ptp(rank))
        alike = not differ or np.ptp(own) == 0
        return 0.0 if alike else np.corrcoef(rankdata(own), rankdata(rank))[0, 1], differ

    return _of_groups(scores, truth, of_group)


def _flat(scores: Float[np.ndarray, "G L"], truth: Truth) -> Counts:
    return _of_groups(scores, truth, lambda own, _: (float(np.ptp(own) == 0), len(own) > 1))


def _samples(truth: Truth, drawn: Resampled) -> Float[np.ndarray, "1+resamples N"]:
    """How often each sample that exists is in each resample."""
    return np.repeat(drawn, truth.exists.sum(1), axis=1)


def _auc(
    scores: Float[np.ndarray, "G L"], truth: Truth, drawn: Resampled
) -> Float[np.ndarray, " 1+resamples"]:
    """The area under the ROC curve of every resample."""
    own, right = scores[truth.exists], truth.right[truth.exists]
    order = np.argsort(own, kind="stable")
    weights = _samples(truth, drawn)[:, order]
    ups, downs = np.where(right[order], weights, 0), np.where(right[order], 0, weights)
    starts = np.flatnonzero(np.diff(own[order], prepend=np.nan) != 0)  # equal scores are together
    ups, downs = (np.add.reduceat(x, starts, axis=1, dtype=float) for x in (ups, downs))
    below = np.cumsum(downs, axis=1) - downs / 2
    with np.errstate(invalid="ignore"):  # all may be right, or all wrong
        return (ups * below).sum(1) / (ups.sum(1) * downs.sum(1))


def _calibration(
    scores: Float[np.ndarray, "G L"], truth: Truth, drawn: Resampled
) -> Float[np.ndarray, " 1+resamples"]:
    own, right = scores[truth.exists], truth.right[truth.exists]
    order = np.argsort(own, kind="stable")
    weights = _samples(truth, drawn)[:, order]
    gap = (own - right)[order] * weights
    starts = np.unique(np.linspace(0, len(own), BINS, endpoint=False, dtype=int))
    gaps = np.abs(np.add.reduceat(gap, starts, axis=1, dtype=float))
    return gaps.sum(1) / weights.sum(1)


def roc(
    scores: Float[np.ndarray, "G L"], truth: Truth
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Shares of the wrong and of the right samples that reach each threshold, from (0, 0) on."""
    own, right = scores[truth.exists], truth.right[truth.exists]
    thresholds = np.unique(own)[::-1]
    reached = lambda some: np.array([0, *((own[some] >= t).mean() for t in thresholds)])
    return reached(~right), reached(right)
