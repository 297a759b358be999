"""Token entropy and its rank in the window."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asg_jax.signals.difficulty import (
    Difficulty,
    empty_window,
    ste_difficulty,
    token_entropy,
    window_size,
)

few = settings(max_examples=25)
entropies = arrays(np.float32, (2, 3), elements=st.floats(0.0, 12.0, width=32))
masks = arrays(bool, (2, 3))
rank = jax.jit(ste_difficulty)


def filled(*values):
    """A window of 16 that holds these values."""
    return empty_window(16).at[16 - len(values) :].set(jnp.array(values))


def test_only_the_first_answer_tokens_count():
    entropy = jnp.array([[9.0, 1.0, 9.0, 2.0, 3.0, 9.0], [9.0, 9.0, 9.0, 9.0, 9.0, 9.0]])
    answer = jnp.array([[0, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)
    assert token_entropy(entropy, answer, first=3).tolist() == [3, 0]
    assert token_entropy(entropy, answer, first=3, aggregation="mean").tolist() == [2, 0]


def test_the_window_grows_with_the_step():
    assert window_size(1, 3) == 128
    assert window_size(16, 3) == 384
    assert not jnp.isfinite(empty_window(4)).any() and empty_window(4).shape == (4,)


@few
@given(entropies, masks)
def test_absent_answers_change_nothing(entropy, answered):
    window = filled(*np.linspace(0.5, 4, 9))
    one = rank(window, entropy, answered)
    other = rank(window, jnp.where(answered, entropy, 77.0), answered)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not one[0][~answered].any()


@few
@given(entropies, masks, st.integers(0, 16))
def test_difficulty_is_a_rank(entropy, answered, size):
    result, window = rank(filled(*np.linspace(0.5, 4, size)), entropy, answered)
    assert (result >= 0).all() and (result < 1).all()
    stored = answered & (entropy > 1e-6)
    order = np.argsort(entropy[stored])
    assert (np.diff(result[stored][order]) >= 0).all()
    assert int(jnp.isfinite(window).sum()) == min(16, size + stored.sum())


def test_a_step_is_pushed_in_order_and_ranked_as_a_whole():
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    entropy = jnp.array([[2.5, 0.5, 9.0], [1e-6, 2.5, 6.0]])
    answered = jnp.array([[True, True, False], [True, True, True]])
    result, window = rank(filled(*values), entropy, answered)
    assert window[-9:].tolist() == [*values, 2.5, 0.5, 2.5, 6.0]
    np.testing.assert_allclose(result * 9, [[3, 0, 0], [0, 3, 8]], atol=1e-6)


def test_the_oldest_drop_out():
    _, window = rank(filled(*range(1, 17)), jnp.full((2, 3), 50.0), jnp.ones((2, 3), bool))
    assert window.tolist() == [*range(7, 17), *[50] * 6]


def test_until_eight_are_known_a_sigmoid_stands_in():
    entropy, answered = jnp.array([2.0]), jnp.ones(1, bool)
    cold, window = rank(filled(1, 1, 1, 1, 1, 1), entropy, answered)
    warm, _ = rank(window, entropy, answered)
    np.testing.assert_allclose([*cold, *warm], [0.5, 6 / 8], rtol=1e-6)


def test_thresholds_can_be_changed():
    numbers = Difficulty(ranked=3, silent=0.5)
    entropy, answered = jnp.array([0.4, 2.0]), jnp.ones(2, bool)
    ranked, window = ste_difficulty(filled(1, 3), entropy, answered, numbers)
    np.testing.assert_allclose(ranked, [0, 1 / 3], rtol=1e-6)
    assert window[-3:].tolist() == [1, 3, 2]
    cold, _ = ste_difficulty(filled(1), entropy, answered, numbers)
    np.testing.assert_allclose(cold, [0, 0.5], rtol=1e-6)
    steep, _ = ste_difficulty(filled(1), jnp.array([3.0]), answered[:1])
    np.testing.assert_allclose(steep, 1 / (1 + np.exp(-1.5)), rtol=1e-6)


def test_at_eight_entropies_the_rank_counts():
    result, _ = rank(filled(*[1.0] * 7), jnp.array([2.0]), jnp.ones(1, bool))
    np.testing.assert_allclose(result, 7 / 8)
