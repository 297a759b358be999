"""Yes and no as numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.signals.verdicts import YesNo, question_margin, share_of_yes, yes_no

LOGITS = jnp.array([[1.0, 2.0, 3.0, 0.5], [0.0, -1.0, 4.0, 2.0]])


def test_spellings_are_pooled_and_absent_ones_left_out():
    found = yes_no(LOGITS, jnp.array([0, 2]), jnp.array([1, -1]))
    p = jax.nn.softmax(LOGITS)
    np.testing.assert_allclose(found.yes, p[:, 0] + p[:, 2], rtol=1e-6)
    np.testing.assert_allclose(found.no, p[:, 1], rtol=1e-6)
    np.testing.assert_allclose(found.preference, found.yes / (found.yes + found.no), rtol=1e-6)


def test_every_question_has_ids_of_its_own():
    found = yes_no(LOGITS, jnp.array([[0], [3]]), jnp.array([[1], [2]]))
    np.testing.assert_allclose(found.yes, jax.nn.softmax(LOGITS)[jnp.arange(2), jnp.array([0, 3])])


def test_who_says_neither_prefers_neither():
    assert YesNo(jnp.zeros(()), jnp.zeros(())).preference == 0.5


def test_questions_that_were_not_asked_do_not_count():
    asked = jnp.array([[True, True, False], [False] * 3])
    yes, no = jnp.array([[0.9, 0.2, 0.0]] * 2), jnp.array([[0.1, 0.3, 1.0]] * 2)
    np.testing.assert_allclose(question_margin(yes, no, asked), [0.35, 0], atol=1e-6)
    np.testing.assert_allclose(share_of_yes(yes > no, asked), [0.5, 0])
