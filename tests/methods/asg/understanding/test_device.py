"""From what was said to rewards: small evidence made by hand, no model."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.engine.state import TrainState
from asg_jax.methods.asg.settings import Memory, Settings
from asg_jax.methods.asg.understanding.device import (
    Evidence,
    JudgedQuestions,
    _metrics,
    judge,
    proposer_lesson,
    separate,
    solver_advantages,
    solver_lesson,
)
from asg_jax.methods.asg.understanding.host import read_answers, read_forms
from asg_jax.objectives.texts import Imitation, Said
from asg_jax.rollout.text import Texts
from asg_jax.signals.difficulty import Difficulty, empty_window
from asg_jax.signals.rewards import Best, question_penalty, solver_rewards
from asg_jax.signals.table import QUESTIONS, weights_of
from asg_jax.signals.vote import self_consistency_score, vote
from tests.tiny import spoken

STOP = 9
NOTHING: Any = None
GOOD = "what color is the circle?"
ASKED = [[GOOD, "how many objects are there?", None], ["red circle", GOOD, GOOD]]
# Three answers and the greedy one: split, unanimous, unasked; malformed, two to one, two to one.
SPOKEN = [
    [["red", "blue", "green", "blue"], ["2", "two", "2 objects", "2"], ["x", "y", "z", "x"]],
    [["x", "y", "z", "z"], ["red", "red", "blue", "blue"], ["blue", "blue", "red", "blue"]],
]
ENTROPIES = np.array([[1.2, 0.4, 0.9], [0.8, 1.0, 0.6]], np.float32)
SETTINGS = Settings()
MEMORY = Memory(
    baseline=jnp.float32(0.1),
    entropy_target=jnp.float32(0.9),
    window=jnp.asarray(empty_window(16), jnp.float32),
    vote_gain=jnp.float32(-0.1),
    anchor=None,
)


def said(rows: int, tokens: int = 3) -> Said:
    rollout = spoken(np.ones((2, rows, tokens), int))
    return Said(NOTHING, Texts(rollout.ids, rollout.mask), rollout)


def evidence(entropies: np.ndarray = ENTROPIES) -> Evidence:
    """Every greedy answer has one token before the stop token, with the given entropy."""
    solved = said(rows=3 * 4)
    surprise = np.full((2, 3, 4, 3), 5.0, np.float32)  # what must not count
    surprise[:, :, 3, 0] = entropies
    ids = np.ones((2, 3, 4, 3), np.int32)
    ids[..., 1:] = STOP
    flat = lambda x: jnp.asarray(x.reshape(2, 12, 3))
    rollout = replace(solved.rollout, entropies=flat(surprise), ids=flat(ids))
    return Evidence(
        asked=said(rows=3),
        answered=replace(solved, rollout=rollout),
        forms=jax.tree.map(jnp.asarray, read_forms(ASKED)),
        answers=jax.tree.map(jnp.asarray, read_answers(ASKED, SPOKEN)),
        stream=jnp.array([[0, 1, 4, 0, 2], [0, 1, 5, 1, 2]], jnp.uint32),
    )


def judged(settings: Settings = SETTINGS, found: Evidence | None = None) -> JudgedQuestions:
    return judge(settings, (STOP,), MEMORY, found or evidence())[0]


def test_forms_and_answers_are_read() -> None:
    forms, answers = evidence().forms, evidence().answers
    assert forms.parsed.tolist() == [[True, True, False], [True, True, True]]
    assert forms.malformed.tolist() == [[False, False, True], [True, False, False]]
    assert forms.repeated.tolist() == [[False, False, False], [False, False, True]]
    assert forms.novel.tolist() == [[True, True, True], [True, False, False]]
    assert answers.labels[0, :2].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert answers.labels[1, 1].tolist() == [0, 0, 1]
    assert answers.greedy.tolist() == [[1, 0, 0], [2, 1, 0]]


def test_answers_to_yes_no_questions_are_told_apart() -> None:
    asked: list[list[str | None]] = [["is the circle red?", "what is not red?"]]
    answers = read_answers(
        asked, [[["yes", "No, it is not", "red", "no"], ["yes", "no", "a cup", "a cup"]]]
    )
    assert answers.binary.tolist() == [[[True] * 3, [False] * 3]]
    assert answers.yes[0, 0].tolist() == [True, False, False]
    assert answers.noncanonical.tolist() == [[[False, False, True], [True, True, False]]]
    assert answers.words[0, 0].tolist() == [1, 4, 1]


def test_the_entropy_is_that_of_the_greedy_answer_without_its_stop_token() -> None:
    np.testing.assert_allclose(judged().surprise, ENTROPIES)


def test_entropies_of_answered_questions_join_the_window_in_order() -> None:
    _, window = judge(SETTINGS, (STOP,), MEMORY, evidence())
    known = window[np.isfinite(window)]
    np.testing.assert_allclose(known, [1.2, 0.4, 0.8, 1.0, 0.6])


def test_rewards_are_those_of_the_formulas() -> None:
    found, got = evidence(), judged()
    votes = vote(found.answers.labels, found.forms.parsed[..., None])
    consistency = self_consistency_score(votes.entropy, votes.margin, 0.9)
    forms = found.forms
    penalty = question_penalty(forms.malformed, forms.subjective, forms.repeated)
    difficulty = got.signals["difficulty"]
    consistency = jnp.where(forms.parsed, consistency, -1)
    want = jnp.clip(0.7 * difficulty + 0.3 * consistency - penalty, -1, 1)
    np.testing.assert_allclose(got.proposer, want, rtol=1e-6)
    assert float(got.proposer[0, 2]) == pytest.approx(-0.30 - 0.35)
    answers = found.answers
    each = solver_rewards(votes, answers.words, answers.noncanonical, answers.low_information)
    rows = np.arange(2)
    np.testing.assert_allclose(got.solver, each[rows, got.chosen.place], rtol=1e-6)


def test_questions_with_faults_are_not_chosen() -> None:
    got = judged()
    assert got.accepted.tolist() == [[True, True, False], [False, True, False]]
    assert got.chosen.place.tolist() == [0, 1] and got.learns.tolist() == [True, True]


def test_nothing_is_learned_from_what_all_agree_on_or_without_a_question() -> None:
    unanimous = evidence()
    labels = jnp.zeros_like(unanimous.answers.labels)
    unanimous = replace(unanimous, answers=replace(unanimous.answers, labels=labels))
    assert not judged(found=unanimous).learns.any()
    forms = replace(unanimous.forms, malformed=jnp.ones((2, 3), bool))
    assert not judged(found=replace(evidence(), forms=forms)).learns.any()


def test_narrow_majorities_teach_only_where_they_may() -> None:
    assert judged(replace(SETTINGS, least_majority=0.6)).learns.tolist() == [False, True]


def test_where_votes_know_no_more_than_greedy_answers_nothing_is_learned() -> None:
    held = lambda least: judged(replace(SETTINGS, least_vote_gain=least)).learns.tolist()
    assert held(-0.09) == [False, False] and held(-0.11) == [True, True]
    # Two of the last three are foretold, and the greedy answer agrees with one or two.
    want = [[-1 / 3, 0, 0], [-1 / 3, 2 / 3 - 1 / 3, 2 / 3 - 2 / 3]]
    np.testing.assert_allclose(judged().gain, want, atol=1e-6)


def test_balanced_answers_of_yes_and_of_no_are_compared_among_themselves() -> None:
    asked: list[list[str | None]] = [["is the circle red?"], ["is it a cross?"], [GOOD]]
    spoken = [
        [["yes", "yes", "no", "no"]],
        [["yes", "no", "no", "no"]],
        [["red", "red", "blue", "red"]],
    ]
    answers = jax.tree.map(jnp.asarray, read_answers(asked, spoken))
    solver = jnp.array([[0.6, 0.6, -0.1], [-0.2, 0.4, 0.4], [0.5, 0.5, -0.1]])
    found = judged()._replace(
        chosen=Best(jnp.zeros(3, int), jnp.ones(3, bool)),
        learns=jnp.array([True, True, True]),
        solver=solver,
    )
    got = solver_advantages(replace(SETTINGS, balanced=True), MEMORY, answers, found)
    third = 1 / 3
    want = [[0.8 * third, 0.8 * third, -third], [-1.6 * third, 0.5 * third, 0.5 * third]]
    np.testing.assert_allclose(got[:2], want, atol=1e-6)
    plain = solver_advantages(SETTINGS, MEMORY, answers, found)
    np.testing.assert_allclose(plain, solver - 0.1, atol=1e-6)
    np.testing.assert_array_equal(got[2], plain[2])
    silent = found._replace(learns=jnp.array([True, False, True]))
    alone = solver_advantages(replace(SETTINGS, balanced=True), MEMORY, answers, silent)
    np.testing.assert_allclose(alone[0], 0, atol=1e-6)  # nothing to compare with


def changed(name: str, settings: Settings) -> bool:
    """Whether the Proposer's rewards depend on one of the signals."""
    found = evidence()
    if name == "entropy":
        other = evidence(ENTROPIES[:, ::-1].copy())
    else:
        labels = jnp.flip(found.answers.labels, 1)
        other = replace(found, answers=replace(found.answers, labels=labels))
    before, after = judged(settings, found).proposer, judged(settings, other).proposer
    return not np.array_equal(before, after)


@pytest.mark.parametrize(
    ("weights", "entropy", "votes"),
    [
        ({}, True, True),
        ({"difficulty": 0.0}, False, True),
        ({"consistency": 0.0}, True, False),
    ],
)
def test_each_weight_switches_its_signal(
    weights: dict[str, float], entropy: bool, votes: bool
) -> None:
    settings = replace(SETTINGS, question_weights={**SETTINGS.question_weights, **weights})
    assert changed("entropy", settings) == entropy
    assert changed("labels", settings) == votes


def test_the_mean_of_the_first_tokens_is_the_control_of_their_maximum() -> None:
    found = evidence()
    rollout = found.answered.rollout
    ids = jnp.ones_like(rollout.ids)  # three answer tokens with entropies e, 5, 5
    found = replace(found, answered=replace(found.answered, rollout=replace(rollout, ids=ids)))
    mean = judged(replace(SETTINGS, difficulty=Difficulty(aggregation="mean")), found).surprise
    np.testing.assert_allclose(judged(SETTINGS, found).surprise, 5)
    np.testing.assert_allclose(mean, (ENTROPIES + 10) / 3, rtol=1e-6)
    one = judged(replace(SETTINGS, difficulty=Difficulty(tokens=1)), found).surprise
    np.testing.assert_allclose(one, ENTROPIES)


def test_shuffled_rewards_are_the_same_numbers_elsewhere() -> None:
    plain, dealt = judged(), judged(replace(SETTINGS, shuffled=True))
    flat = lambda x: sorted(np.ravel(x).tolist())
    assert flat(plain.proposer) == flat(dealt.proposer)
    assert not np.array_equal(plain.proposer, dealt.proposer)
    other = replace(evidence(), stream=jnp.array([[0, 2, 4, 0, 2], [0, 2, 5, 1, 2]], jnp.uint32))
    again = judged(replace(SETTINGS, shuffled=True), other)
    assert not np.array_equal(again.proposer, dealt.proposer)


def test_every_reward_of_an_example_is_its_own() -> None:
    """Without the window, which all share, an example is judged the same alone."""
    settings = replace(SETTINGS, question_weights=weights_of(QUESTIONS, consistency=0.3))
    first = lambda x: jax.tree.map(lambda leaf: leaf[:1], x)
    alone, both = judged(settings, first(evidence())), judged(settings)
    np.testing.assert_array_equal(alone.proposer, both.proposer[:1])
    np.testing.assert_array_equal(alone.solver, both.solver[:1])


def test_the_greedy_answer_of_each_question_is_told_from_the_voted_ones() -> None:
    ids = jnp.arange(2 * 12).reshape(2, 12, 1)
    rollout = replace(said(rows=12, tokens=1).rollout, ids=ids)
    found = separate(Said(NOTHING, Texts(ids, ids > 0), rollout), 3)
    assert found.greedy.rollout.ids[0, :, 0].tolist() == [3, 7, 11]
    assert found.votes.rollout.ids[0, :, 0].tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert found.votes.texts.ids[1, :3, 0].tolist() == [12, 13, 14]


def test_the_solver_learns_from_the_answers_to_the_best_question() -> None:
    found = evidence()
    ids = jnp.broadcast_to(jnp.arange(12)[:, None], (2, 12, 3))
    answered = replace(found.answered, rollout=replace(found.answered.rollout, ids=ids))
    lesson = solver_lesson(SETTINGS, MEMORY, replace(found, answered=answered), judged())
    assert lesson.said.rollout.ids[..., 0].tolist() == [[0, 1, 2], [4, 5, 6]]
    assert lesson.kept.all()
    imitating = replace(SETTINGS, solver=replace(SETTINGS.solver, objective=Imitation()))
    majority = solver_lesson(imitating, MEMORY, found, judged())
    assert majority.kept.tolist() == [[True, False, False], [True, True, False]]


def test_imitation_takes_the_best_question_without_fault_alone() -> None:
    imitating = replace(SETTINGS, proposer=replace(SETTINGS.proposer, objective=Imitation()))
    lesson = proposer_lesson(imitating, evidence(), judged())
    assert lesson.kept.tolist() == [[True, False, False], [False, True, False]]
    forms = replace(evidence().forms, malformed=jnp.ones((2, 3), bool))
    faulty = replace(evidence(), forms=forms)
    assert not proposer_lesson(imitating, faulty, judged(imitating, faulty)).kept.any()


def test_the_yes_rate_counts_questions_for_yes_or_no_alone() -> None:
    asked: list[list[str | None]] = [["is the circle red?", GOOD, None]] * 2
    few = [["yes", "no", "no", "no"], ["yes", "yes", "yes", "yes"], ["x", "y", "z", "z"]]
    spoken_answers = [few] * 2
    found = replace(
        evidence(),
        forms=jax.tree.map(jnp.asarray, read_forms(asked)),
        answers=jax.tree.map(jnp.asarray, read_answers(asked, spoken_answers)),
    )
    state = TrainState(jnp.uint32(0), jnp.int32(0), {}, jnp.int32(0), MEMORY)
    metrics = _metrics(SETTINGS, found, judged(SETTINGS, found), state)
    assert float(metrics["check/yes_rate"]) == pytest.approx(1 / 3)
