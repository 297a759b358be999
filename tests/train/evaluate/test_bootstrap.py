"""Intervals: they cover what they should, clusters count once, and pairs cancel what they share."""

import numpy as np
import pytest

from asg_jax.train.evaluate.bootstrap import Term, contrast, resamples
from asg_jax.train.evaluate.outcomes import ALL, CLEAR, OF_CLEAR, Outcomes

RNG = np.random.default_rng(3)


def outcomes(right, seed=0, clusters=None, clear=None, groups=None) -> Outcomes:
    right = np.atleast_2d(np.asarray(right, bool))
    clusters = np.arange(right.shape[1]) if clusters is None else clusters
    labels = {"kind": tuple(groups or ["a"] * right.shape[1])}
    clear = np.ones_like(right) if clear is None else np.atleast_2d(clear)
    return Outcomes(seed, clusters, labels, {"m": right}, {"m": clear})


def score(own: Outcomes, name=ALL):
    return contrast([Term(1.0, own, "m")])[name]


def difference(after: Outcomes, before: Outcomes):
    return contrast([Term(1.0, after, "m"), Term(-1.0, before, "m")])[ALL]


def test_intervals_cover_the_true_rate_as_often_as_they_say() -> None:
    """Four questions a picture, whose chance to be answered is that of the picture: beta(3, 1)."""
    clusters, covered, widths = np.repeat(np.arange(100), 4), 0, []
    for _ in range(300):
        chance = RNG.beta(3, 1, size=100)[clusters]
        found = score(outcomes(RNG.random(400) < chance, clusters=clusters))
        covered += found.low <= 75 <= found.high
        widths.append(found.high - found.low)
    assert 0.91 <= covered / 300 <= 0.98
    alone = score(outcomes(RNG.random(400) < 0.75))
    assert np.mean(widths) > 1.1 * (alone.high - alone.low)


def test_the_interval_of_independent_items_is_that_of_the_binomial() -> None:
    found = score(outcomes(np.arange(900) % 10 < 3))
    error = 196 * np.sqrt(0.3 * 0.7 / 900)
    assert found.value == pytest.approx(30)
    assert found.high - found.low == pytest.approx(2 * error, rel=0.05)


def test_repeated_items_of_a_cluster_add_nothing() -> None:
    once = RNG.random(200) < 0.6
    four = outcomes(np.repeat(once, 4), clusters=np.repeat(np.arange(200), 4))
    assert score(four) == score(outcomes(once))


def test_pairs_cancel_what_they_share() -> None:
    before = RNG.random(900) < 0.5
    after = before.copy()
    after[np.flatnonzero(~before)[:45]] = True
    paired = difference(outcomes(after), outcomes(before))
    assert paired.value == pytest.approx(5) and 3 < paired.low < paired.high < 7
    others = difference(outcomes(after), outcomes(before, seed=1))
    assert others.value == pytest.approx(5) and others.high - others.low > 8
    assert difference(outcomes(before), outcomes(before)) == (0, 0, 0)


def test_groups_and_parsable_outputs_have_scores_of_their_own() -> None:
    right = np.array([1, 0, 1, 1, 0, 0, 1, 1], bool)
    clear = np.array([1, 1, 1, 1, 0, 0, 1, 0], bool)
    own = outcomes(right, clear=clear, groups="aabbbbcc")
    values = {name: found.value for name, found in contrast([Term(1.0, own, "m")]).items()}
    expected = {ALL: 62.5, CLEAR: 62.5, OF_CLEAR: 80, "kind: a": 50, "kind: b": 50, "kind: c": 100}
    assert values == pytest.approx(expected)
    found = score(own)
    assert 0 <= found.low <= found.value <= found.high <= 100


def test_several_outputs_of_an_item_count_alike_and_narrow_the_interval() -> None:
    right = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
    clear = np.array([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]], bool)
    own = outcomes(right, clear=clear, groups="aabb")
    values = {name: found.value for name, found in contrast([Term(1.0, own, "m")]).items()}
    expected = {ALL: 700 / 12, CLEAR: 1000 / 12, OF_CLEAR: 70, "kind: a": 400 / 6, "kind: b": 50}
    assert values == pytest.approx(expected)
    many = RNG.random((7, 900)) < 0.5
    one, all_of_them = score(outcomes(many[:1])), score(outcomes(many))
    assert all_of_them.high - all_of_them.low < 0.45 * (one.high - one.low)


def test_what_counts_nothing_has_no_statistic() -> None:
    none = outcomes(np.zeros(5, bool), clear=np.zeros(5, bool))
    assert set(contrast([Term(1.0, none, "m")])) == {ALL, CLEAR, "kind: a"}


def test_resamples_are_functions_of_their_arguments() -> None:
    first = resamples(4, 50).copy()
    assert (first.sum(1) == 50).all()
    resamples.cache_clear()
    np.testing.assert_array_equal(first, resamples(4, 50))
    assert (first != resamples(5, 50)).any()
