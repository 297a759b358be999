from itertools import product

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from asg_jax.train.benchmarks.power import RIGHT, Truth, correlation, decided, power, roc, share

G, L = 40, 6
KINDS = (RIGHT, "color", "count", "position", "shape", "unrelated")


def truth(exists: np.ndarray | None = None) -> Truth:
    """One right sample in every group, and one with each fault."""
    rank = np.zeros((G, L))
    rank[:, 0] = 1
    exists = np.ones((G, L), bool) if exists is None else exists
    kinds = np.where(exists, np.array(KINDS), "")
    return Truth(rank, exists, kinds.tolist())


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((G, L))


def test_the_truth_itself_is_a_perfect_signal() -> None:
    known = truth()
    found = power(known.rank, known, 0)
    for name in ("auc", "pairs", "rank", *(f"pairs/{kind}" for kind in KINDS[1:])):
        assert tuple(found[name]) == (100, 100, 100)
    assert found["flat"].value == 0 and found["calibration"].value == 0
    assert decided(known.rank, known) == G * (L - 1)


def test_noise_sees_nothing() -> None:
    found = power(noise(), truth(), 0)
    for name in ("auc", "pairs"):
        assert found[name].low < 50 < found[name].high
    assert found["rank"].low < 0 < found["rank"].high


def test_what_reads_the_prompt_alone_tells_no_pair_apart() -> None:
    scores = np.repeat(noise()[:, :1], L, axis=1)
    found = power(scores, truth(), 0)
    assert tuple(found["pairs"]) == (50, 50, 50)
    assert found["flat"].value == 100 and found["rank"].value == 0
    assert decided(scores, truth()) == 0


def test_figures_are_those_of_every_pair_one_by_one() -> None:
    exists = noise(1) < 0.8
    known, scores = truth(exists), np.round(noise(2), 1)  # with ties
    right, wrong = scores[known.right], scores[exists & ~known.right]
    value = lambda up, down: (up > down) + 0.5 * (up == down)
    found = power(scores, known, 3)
    every = [value(up, down) for up, down in product(right, wrong)]
    assert found["auc"].value == pytest.approx(100 * np.mean(every))
    inside = [
        value(scores[g, 0], scores[g, n])
        for g in range(G)
        for n in range(1, L)
        if exists[g, 0] and exists[g, n]
    ]
    assert found["pairs"].value == pytest.approx(100 * np.mean(inside))
    assert decided(scores, known) == pytest.approx((2 * np.array(inside) - 1).sum())
    ranks: list[float] = [
        float(spearmanr(scores[g, exists[g]], known.rank[g, exists[g]])[0])  # type: ignore[arg-type]
        if np.ptp(scores[g, exists[g]])
        else 0
        for g in range(G)
        if exists[g, 0] and exists[g].sum() > 1
    ]
    assert found["rank"].value == pytest.approx(100 * np.mean(ranks))
    flat = [np.ptp(scores[g, exists[g]]) == 0 for g in range(G) if exists[g].sum() > 1]
    assert found["flat"].value == pytest.approx(100 * np.mean(flat))


def test_resamples_draw_whole_groups_and_are_the_same_again() -> None:
    scores = truth().rank + 3 * noise()
    first, again = power(scores, truth(), 5), power(scores, truth(), 5)
    assert first == again
    assert power(scores, truth(), 6)["auc"].low != first["auc"].low
    assert first["auc"].low < first["auc"].value < first["auc"].high


def test_scores_that_say_how_many_are_right_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((500, 4))
    right = rng.random(scores.shape) < scores
    known = Truth(right.astype(float), np.ones_like(right), np.where(right, RIGHT, "x").tolist())
    assert power(scores, known, 0)["calibration"].value < 4
    assert power(scores**3, known, 0)["calibration"].value > 15
    assert "calibration" not in power(2 * scores, known, 0)


def test_ranks_without_a_right_sample_give_orders_alone() -> None:
    rank = np.tile(np.arange(L, dtype=float), (G, 1))
    known = Truth(rank, np.ones((G, L), bool), [["ranked"] * L] * G)
    found = power(rank**2, known, 0)
    assert found["pairs"].value == found["rank"].value == 100
    assert "auc" not in found and "calibration" not in found and "pairs/ranked" not in found


def test_the_curve_of_a_signal_encloses_its_area() -> None:
    scores = np.round(truth().rank + 2 * noise(), 1)
    wrong, right = roc(scores, truth())
    assert (wrong[0], right[0], wrong[-1], right[-1]) == (0, 0, 1, 1)
    area = np.trapezoid(right, wrong)
    assert 100 * area == pytest.approx(power(scores, truth(), 0)["auc"].value)


def test_a_share_counts_what_counts() -> None:
    counted = noise(1) < 0.6
    found = share(noise(2), counted, 0)
    assert found.value == pytest.approx(100 * noise(2)[counted].mean())
    assert found.low < 50 < found.high
    assert tuple(share(np.ones((G, L)), counted, 0)) == (100, 100, 100)


def test_a_correlation_is_that_of_the_samples_that_count() -> None:
    counted, first, second = noise(1) < 0.6, noise(2), noise(3)
    both = first + 0.5 * second
    ranks = lambda x: rankdata(x[counted])
    found = correlation(first, both, counted, 0)
    assert found is not None
    assert found.value == pytest.approx(100 * np.corrcoef(ranks(first), ranks(both))[0, 1])
    assert 0 < found.low < found.value < found.high < 100
    none = correlation(first, second, counted, 0)
    assert none is not None and none.low < 0 < none.high
    assert tuple(correlation(first, first, counted, 0) or ()) == pytest.approx((100, 100, 100))
    assert correlation(np.ones((G, L)), first, counted, 0) is None
    assert correlation(first, second, np.zeros((G, L), bool), 0) is None
