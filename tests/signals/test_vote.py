"""Votes: they do not care for order, names or padding, and scores stay in their ranges."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.signals.vote import (
    Consistency,
    entropy_target_update,
    gaussian,
    informativeness,
    is_easy,
    self_consistency_score,
    vote,
    vote_gain,
)

N = 7
few = settings(max_examples=25)
ballots = arrays(np.int32, N, elements=st.integers(0, 4))
present = arrays(bool, N)
ballot = jax.jit(vote)
ALL = jnp.ones(N, bool)


@few
@given(ballots, present, st.permutations(range(N)))
def test_order_changes_no_number(labels, mask, order):
    order = np.array(order)
    one, other = ballot(labels, mask), ballot(labels[order], mask[order])
    for name in ("fraction", "margin", "entropy"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-6)
    np.testing.assert_allclose(one.shares[order], other.shares)


@few
@given(ballots, present)
def test_absent_answers_do_not_vote(labels, mask):
    other = np.where(mask, labels, 99)
    for a, b in zip(ballot(labels, mask)[1:], ballot(other, mask)[1:], strict=True):
        np.testing.assert_array_equal(a, b)


@few
@given(ballots)
def test_names_of_classes_do_not_matter(labels):
    renamed = np.array([40, -7, 3, 12, 5], np.int32)[labels]
    one, other = ballot(labels, ALL), ballot(renamed, ALL)
    np.testing.assert_array_equal(one.agrees, other.agrees)
    assert one.entropy == other.entropy


@few
@given(ballots)
def test_entropy_is_that_of_the_histogram(labels):
    shares = np.bincount(labels)[np.unique(labels)] / N
    result = ballot(labels, ALL)
    np.testing.assert_allclose(result.entropy, -(shares * np.log(shares)).sum(), atol=1e-6)
    top = [*sorted(shares, reverse=True), 0.0]
    np.testing.assert_allclose(result.margin, top[0] - top[1], atol=1e-6)


def test_a_batch_is_row_by_row():
    labels = np.random.default_rng(0).integers(0, 4, (3, 2, N))
    mask = np.array([True, True, False])[:, None, None]  # no question of the third image
    result = ballot(labels, mask)
    for i, k in np.ndindex(3, 2):
        alone = ballot(labels[i, k], ALL & bool(mask[i, 0, 0]))
        jax.tree.map(lambda x, y, i=i, k=k: np.testing.assert_allclose(x[i, k], y), result, alone)
    assert not result.agrees[2].any() and not result.entropy[2].any()


@few
@given(ballots, st.floats(0.65, 1.5))
def test_scores_stay_in_range(labels, target):
    result = ballot(labels, ALL)
    assert 0 <= informativeness(result.entropy, result.margin) <= 1
    assert -1 <= self_consistency_score(result.entropy, result.margin, target) <= 1


def test_a_split_vote_teaches_more_than_a_unanimous_one():
    labels = jnp.array([[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0, 1]])
    result = ballot(labels, ALL)
    unanimous, split, nearly = informativeness(result.entropy, result.margin).tolist()
    assert split > nearly > unanimous
    assert is_easy(result).tolist() == [True, False, False]


def test_entropy_target_follows_the_kept_questions_only():
    entropies, kept = jnp.array([1.0, 1.2, jnp.nan]), jnp.array([True, True, False])
    np.testing.assert_allclose(entropy_target_update(0.9, entropies, kept), 0.92, rtol=1e-6)
    np.testing.assert_allclose(entropy_target_update(0.9, entropies, ~kept & False), 0.9)
    numbers = Consistency(target_decay=0.5, target_range=(0.2, 1.0))
    np.testing.assert_allclose(entropy_target_update(0.5, entropies, kept, numbers), 0.75)
    low = jnp.array([0.1, 0.1, 0.1])
    np.testing.assert_allclose(entropy_target_update(0.5, low, kept, numbers), 0.35)


def test_scores_by_hand():
    """At the peak a vote without a margin teaches all, at a spread's distance exp(-1/2) of half."""
    entropy, margin = jnp.array([0.675, 1.2, 0.675, 0.675]), jnp.array([0.0, 0.45, 0.9, 1.0])
    near = np.exp(-0.5)
    np.testing.assert_allclose(
        informativeness(entropy, margin), [1, near / 2 + 0.25, 0.5, 0.5], rtol=1e-6
    )
    got = self_consistency_score(jnp.array([0.675, 0.675]), jnp.array([0.0, 0.9]), 0.925)
    np.testing.assert_allclose(got, [0.9 + 0.1 * near, 0.1 * near], rtol=1e-5)
    numbers = Consistency(1.0, 0.5, 0.5, 0.6, 0.0, 0.1)
    entropy, margin = jnp.array([1.5]), jnp.array([0.25])
    taught = informativeness(entropy, margin, numbers)
    np.testing.assert_allclose(taught, [near / 2 + 0.25], rtol=1e-6)
    got = self_consistency_score(entropy, margin, 1.4, numbers)
    np.testing.assert_allclose(got, 0.6 * (2 * taught - 1) + 0.4 * near, rtol=1e-5)


def test_a_band_without_width_is_nothing():
    x = jnp.array([0.5, 1.0])
    np.testing.assert_array_equal(gaussian(x, 0.5, 0.0), 0)
    np.testing.assert_allclose(gaussian(x, 0.5, 0.5), [1, np.exp(-0.5)], rtol=1e-6)


def test_easy_questions_have_a_large_majority_and_a_wide_margin():
    found = ballot(jnp.array([0] * 6 + [1]), ALL)._replace(
        fraction=jnp.array([0.85, 0.84, 0.9, 0.95]), margin=jnp.array([0.91, 1.0, 0.9, 0.95])
    )
    assert is_easy(found).tolist() == [True, False, False, True]
    numbers = Consistency(easy_fraction=0.9, easy_margin=0.8)
    assert is_easy(found, numbers).tolist() == [False, False, True, True]


def foretold(labels, greedy):
    """The gain by its definition."""
    gains = []
    for n, label in enumerate(labels):
        others = [*labels[:n], *labels[n + 1 :]]
        winner = max(others, key=others.count)  # of equal counts the first one seen
        gains.append((winner == label) - (greedy == label))
    return np.mean(gains)


@few
@given(ballots, st.integers(0, 5), st.integers(2, N))
def test_the_gain_of_a_vote_is_what_it_foretells_more_than_the_greedy_answer(labels, greedy, count):
    mask = np.arange(N) < count
    got = vote_gain(jnp.asarray(labels), jnp.int32(greedy), jnp.asarray(mask))
    np.testing.assert_allclose(got, foretold(labels[:count].tolist(), greedy), atol=1e-6)


def test_a_vote_gains_what_greedy_answers_miss_and_loses_what_they_know():
    labels = jnp.array([[1, 1, 1, 1], [1, 1, 2, 2]])
    one = jnp.ones(4, bool)
    np.testing.assert_allclose(vote_gain(labels, jnp.array([1, 1]), one), [0, -0.5])
    np.testing.assert_allclose(vote_gain(labels, jnp.array([0, 0]), one), [1, 0])
    assert vote_gain(labels[0], jnp.int32(0), jnp.arange(4) < 1) == 0
