"""Every signal of the tables on a small record, against its formula."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.signals import table
from asg_jax.signals.fidelity import Fidelity
from asg_jax.signals.rewards import weighted
from asg_jax.signals.table import (
    DRAWINGS,
    QUESTIONS,
    Asked,
    Drawn,
    Numbers,
    Signal,
    check_weights,
    needed,
    read,
    weights_of,
)
from asg_jax.signals.verdicts import YesNo
from asg_jax.signals.vote import Consistency, vote

NUMBERS = Numbers()
B, L, M, D = 2, 3, 2, 4
RNG = np.random.default_rng(0)


def unit(*shape):
    """Vectors of length 1 with positive entries, so that cosines are above 0."""
    rows = np.abs(RNG.normal(size=(*shape, D)))
    return jnp.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), jnp.float32)


def share(*shape):
    return jnp.asarray(RNG.uniform(size=shape), jnp.float32)


LABELS = jnp.array([[[0, 0, 1, 1], [0, 0, 0, 1]], [[2, 2, 2, 2], [0, 1, 2, 3]]])
ASKED = Asked(
    vote=vote(LABELS, jnp.ones((2, 2, 1), bool)),
    difficulty=jnp.array([[0.25, 0.5], [0.75, 0.9]]),
    target=jnp.array(0.8),
    answered=jnp.array([[True, True], [True, False]]),
)
DRAWN: Any = Drawn(
    asked=jnp.array([[True, True], [True, False]]),
    exists=jnp.array([[True, True, True], [True, False, True]]),
    match=share(B, L, M),
    fraction=share(B, L, M),
    contradiction=jnp.array([[[1, 0], [0, 0], [1, 1]], [[1, 0], [0, 1], [0, 0]]], jnp.float32),
    probability=share(B, L, M),
    prompts=unit(B),
    captions=unit(B, L),
    pictures=unit(B, L),
    likelihood=jnp.array([[-1.0, -1.1, -0.9], [-2.0, -2.0, -2.3]]),
    features=unit(B, L),
    verdict=YesNo(0.6 * share(B, L), 0.4 * share(B, L)),
    answers=YesNo(0.6 * share(B, L, M), 0.4 * share(B, L, M)),
)


def one(name, record, numbers=NUMBERS):
    """A signal of either table."""
    signals = QUESTIONS if isinstance(record, Asked) else DRAWINGS
    return signals[name].read(record, numbers)


def of_asked(x):
    """Mean over the questions that exist: both of the first prompt, one of the second."""
    return np.stack([np.mean(x[0], axis=-1), np.asarray(x)[1, :, 0]])


def cosine(a, b):
    return (np.asarray(a) * np.asarray(b)).sum(-1)


close = lambda got, want: np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


def test_difficulty_is_that_of_answered_questions():
    close(one("difficulty", ASKED), [[0.25, 0.5], [0.75, 0]])


def test_consistency_is_the_informativeness_and_closeness_of_a_vote():
    h, margin = np.asarray(ASKED.vote.entropy), np.asarray(ASKED.vote.margin)

    def score(peak, width, most, part, near):
        band = np.exp(-(((h - peak) / width) ** 2) / 2)
        taught = 0.5 * band + 0.5 * np.maximum(0, 1 - margin / most)
        closeness = np.exp(-(((h - 0.8) / near) ** 2) / 2)
        want = part * np.clip(2 * taught - 1, -1, 1) + (1 - part) * closeness
        return np.where(ASKED.answered, want, -1)

    close(one("consistency", ASKED), score(0.675, 0.525, 0.9, 0.9, 0.25))
    numbers = Numbers(Consistency(0.5, 0.3, 0.7, 0.6, target_width=0.4))
    close(one("consistency", ASKED, numbers), score(0.5, 0.3, 0.7, 0.6, 0.4))


def test_fidelity_is_the_mean_score_of_the_questions_that_exist():
    close(one("vote_fidelity", DRAWN), of_asked(0.7 * DRAWN.match + 0.3 * DRAWN.fraction))
    numbers = Numbers(fidelity=Fidelity(match=0.5, fraction=0.1))
    want = of_asked(0.5 * DRAWN.match + 0.1 * DRAWN.fraction)
    close(one("vote_fidelity", DRAWN, numbers), want)
    close(one("probability_fidelity", DRAWN), of_asked(DRAWN.probability))


def test_cycles_are_half_caption_and_half_picture():
    captions = cosine(DRAWN.captions, DRAWN.prompts[:, None])
    pictures = cosine(DRAWN.pictures, DRAWN.prompts[:, None])
    close(table.caption_cosine(DRAWN, NUMBERS), captions)
    close(one("cosine_cycle", DRAWN), 0.5 * captions + 0.5 * pictures)
    centred = DRAWN.likelihood - DRAWN.likelihood.mean(-1, keepdims=True)
    close(one("likelihood_cycle", DRAWN), 0.5 * captions + 0.5 / (1 + np.exp(-10 * centred)))


def test_diversity_is_among_the_drawings_that_exist():
    """Three drawings share what they add to their mean distance; two have their distance."""
    got = one("diversity", DRAWN)
    cosines = np.einsum("bid,bjd->bij", DRAWN.features, DRAWN.features)
    far = [1 - cosines[0, i, j] for i, j in ((0, 1), (0, 2), (1, 2))]
    without = [far[2], far[1], far[0]]
    gains = np.maximum(0, np.mean(far) - np.array(without))
    np.testing.assert_allclose(got[0], gains / gains.max(), rtol=1e-3, atol=1e-5)
    apart = 1 - cosines[1, 0, 2]
    close(got[1], [apart, 0, apart])


def test_contradiction_is_a_share_of_the_questions_that_exist():
    close(one("contradiction", DRAWN), [[0.5, 0, 1], [1, 0, 0]])


def test_likelihoods_of_prompts_in_either_scale():
    close(one("likelihood", DRAWN), DRAWN.likelihood)
    close(one("gvu", DRAWN), np.exp(DRAWN.likelihood))


def test_verdicts_on_drawings():
    yes, no = (np.asarray(x) for x in DRAWN.verdict)
    close(one("p_yes", DRAWN), yes / (yes + no))
    close(one("accepted", DRAWN), yes >= no)
    close(one("yes_margin", DRAWN), yes - no)
    right, wrong = (np.asarray(x) for x in DRAWN.answers)
    close(one("question_margin", DRAWN), of_asked(right - wrong))
    close(one("share_of_yes", DRAWN), of_asked(right > wrong))


def test_every_signal_is_tested_here():
    assert set(QUESTIONS) == {"difficulty", "consistency"}
    cycles = {"cosine_cycle", "likelihood_cycle", "likelihood", "gvu"}
    fidelities = {"vote_fidelity", "probability_fidelity", "question_margin", "share_of_yes"}
    verdicts = {"p_yes", "accepted", "yes_margin"}
    assert set(DRAWINGS) == cycles | fidelities | verdicts | {"diversity", "contradiction"}


def test_weights_name_every_signal():
    got = weights_of(QUESTIONS, difficulty=0.7)
    assert got == {"difficulty": 0.7, "consistency": 0.0} and list(got) == list(QUESTIONS)


def test_what_a_reward_needs_is_what_its_weights_need():
    weights = weights_of(DRAWINGS, vote_fidelity=1.0, diversity=0.1)
    assert needed(DRAWINGS, weights) == {"match", "fraction", "features"}
    weights = weights_of(DRAWINGS, cosine_cycle=0.1)
    assert needed(DRAWINGS, weights) == {"captions", "prompts", "pictures"}
    weights = weights_of(DRAWINGS, probability_fidelity=-1.0, gvu=1.0)
    assert needed(DRAWINGS, weights) == {"probability", "likelihood"}


def test_signals_without_a_weight_are_not_read():
    """Nor are the facts that they need."""
    bare = Drawn(**{**vars(DRAWN), "probability": None, "pictures": None, "likelihood": None})
    weights = weights_of(DRAWINGS, vote_fidelity=0.5, contradiction=-0.2)
    found = jax.jit(lambda record: read(DRAWINGS, weights, record, NUMBERS))(bare)
    assert set(found) == {"vote_fidelity", "contradiction"}
    want = 0.5 * one("vote_fidelity", bare) - 0.2 * one("contradiction", bare)
    close(weighted(found, weights), want)


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_signal_cannot_be_read_without_what_it_needs(name):
    for need in DRAWINGS[name].needs:
        with pytest.raises(AssertionError):
            one(name, Drawn(**{**vars(DRAWN), need: None}))


def test_weights_are_checked():
    check_weights("weights", QUESTIONS, {"difficulty": 0.0, "consistency": -0.1})
    check_weights("weights", QUESTIONS, {"difficulty": 1.0})
    with pytest.raises(UserError) as error:
        check_weights("weights", QUESTIONS, {"difficulty": 1.0, "charm": 0.0})
    assert str(error.value) == "weights.charm is no signal; known are difficulty, consistency."
    for nothing in ({}, weights_of(QUESTIONS)):
        with pytest.raises(UserError, match="question_weights gives no signal a weight; choose fr"):
            check_weights("question_weights", QUESTIONS, nothing)


def test_a_reward_that_a_method_cannot_read_is_refused():
    check_weights("weights", DRAWINGS, weights_of(DRAWINGS, gvu=1.0), {"likelihood"})
    with pytest.raises(UserError) as error:
        check_weights("weights", DRAWINGS, weights_of(DRAWINGS, p_yes=1.0), {"likelihood"})
    assert str(error.value) == (
        "weights.p_yes needs what this method does not find out; choose from gvu, likelihood."
    )


def test_a_new_signal_is_one_line():
    signals = QUESTIONS | {"margin": Signal(lambda asked, numbers: asked.vote.margin, ("charm",))}
    weights = weights_of(signals, difficulty=0.5, margin=2.0)
    check_weights("weights", signals, weights)
    assert needed(signals, weights) == {"charm"}
    found = read(signals, weights, ASKED, NUMBERS)
    close(weighted(found, weights), 0.5 * one("difficulty", ASKED) + 2 * ASKED.vote.margin)
