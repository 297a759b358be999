"""The judge of answers: what counts as right, and that a model is asked what is judged."""

from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, encode
from asg_jax.models.pictures import to_picture
from asg_jax.rollout.text import TextSampler, sample_text
from asg_jax.train.data.grammar import FRAMINGS
from asg_jax.train.evaluate.questions import STREAM, question_set
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evaluate.understanding import (
    ENSEMBLE,
    GREEDY,
    SAMPLED,
    VOTE,
    QuestionAnswers,
    answer_all,
    judge_answers,
    judge_understanding,
    longest_answer,
    most_frequent,
)

SEED = 11
SETTINGS = EvalSettings(seed=SEED, questions=20, per_picture=2, votes=3, pictures_per_batch=4)


@pytest.fixture(scope="module")
def items():
    return question_set(SEED).items


def test_an_oracle_is_always_right(items) -> None:
    for text in ("{}", " {}. ", "{}?"):
        said = [text.format(item.truth.capitalize()) for item in items]
        outcomes = judge_answers(items, [QuestionAnswers([a] * 3, [a] * 7) for a in said], SEED)
        assert set(outcomes.right) == {GREEDY, SAMPLED, ENSEMBLE, VOTE}
        assert all(right.all() for right in outcomes.right.values())
        assert all(clear.all() for clear in outcomes.clear.values())


def test_answers_that_know_only_the_kind_score_as_chance_says(items) -> None:
    """Truths shuffled among the questions of a kind agree as often as their frequencies imply."""
    rng = np.random.default_rng(0)
    truths, kinds = (np.array([f(i) for i in items]) for f in (lambda i: i.truth, _kind))
    said, expected = truths.copy(), 0.0
    for kind in set(kinds):
        of_kind = np.flatnonzero(kinds == kind)
        said[of_kind] = rng.permutation(truths[of_kind])
        counts = np.array(list(Counter(truths[of_kind]).values()))
        expected += np.square(counts).sum() / len(of_kind) / len(items)
    outcomes = judge_answers(items, [QuestionAnswers([a], [a]) for a in said.tolist()], SEED)
    assert 100 * abs(outcomes.right[GREEDY].mean() - expected) < 3
    assert outcomes.clear[GREEDY].all()
    assert 0.2 < expected < 0.6


def _kind(item) -> str:
    return item.question.kind


def test_wrong_answers_are_told_from_those_that_are_none(items) -> None:
    wrong = [next(o for o in item.question.options if o != item.truth) for item in items]
    outcomes = judge_answers(items, [QuestionAnswers([w], ["blah"]) for w in wrong], SEED)
    assert not outcomes.right[GREEDY].any() and not outcomes.clear[GREEDY].any()
    assert not outcomes.right[SAMPLED].any() and outcomes.clear[SAMPLED].all()
    assert ENSEMBLE not in outcomes.right and VOTE not in outcomes.right


def test_votes_go_to_the_most_frequent_and_then_to_the_first(items) -> None:
    assert most_frequent(["b", "a", "c", "a", "b"]) == "b"
    assert most_frequent(["b", "a", "a"]) == "a"
    item = replace(items[0], truth="yes")
    (given,) = [QuestionAnswers(["no", "Yes", "yes."], ["no", "no", "yes", "yes", "", "", ""])]
    outcomes = judge_answers([item], [given], SEED)
    right = {measure: values[:, 0].tolist() for measure, values in outcomes.right.items()}
    wrong, samples = [False], [False, True, True]
    assert right == {GREEDY: wrong, SAMPLED: samples, ENSEMBLE: wrong, VOTE: [True]}


def test_labels_are_those_of_the_items(items) -> None:
    outcomes = judge_answers(items, [QuestionAnswers(["yes"], ["yes"])] * len(items), SEED)
    assert outcomes.clusters.tolist() == [item.picture for item in items]
    assert outcomes.labels["kind"] == tuple(map(_kind, items))
    assert Counter(outcomes.labels["combination"]) == {"trained": 2400, "held out": 800}
    unseen = [item.question.wording == 3 for item in items]
    assert [label == "unseen" for label in outcomes.labels["wording"]] == unseen


@pytest.fixture(scope="module")
def asked():
    return question_set(SEED, SETTINGS.questions, SETTINGS.per_picture)


@pytest.fixture(scope="module")
def answers(model, asked):
    return answer_all(model, Params(model.base), asked, SETTINGS, True)


def test_answers_do_not_depend_on_their_batch(model, asked, answers) -> None:
    """Ten pictures leave padding in batches of 4, and other padding in batches of 3."""
    threes = replace(SETTINGS, pictures_per_batch=3)
    assert answer_all(model, Params(model.base), asked, threes, True) == answers
    assert len({tuple(given.framings) for given in answers}) == len(answers)  # they do differ
    assert all(len(set(given.samples)) > 1 for given in answers)


def test_without_headroom_the_other_answers_are_the_same(model, asked, answers) -> None:
    few = answer_all(model, Params(model.base), asked, SETTINGS, False)
    assert few == [QuestionAnswers(given.samples, given.framings[:1]) for given in answers]


def test_the_answer_to_an_item_is_that_to_its_own_picture_and_question(
    model, asked, answers
) -> None:
    """Each asked alone, with the question in the prompt instead of behind a shared picture."""
    pictures = [to_picture(asked.pictures[item.picture]) for item in asked.items]
    turns = [[p, str(item.question)] for p, item in zip(pictures, asked.items, strict=True)]
    request = model.processor.prompt(turns, "answer")
    key = jax.random.fold_in(jax.random.key(SEED), STREAM)
    keys = jnp.stack([jax.random.fold_in(jax.random.fold_in(key, n), 0) for n in range(len(turns))])

    @jax.jit
    def speak(params, request, keys):
        prefix = model.backbone.prefill(params, encode(model.backbone, params, request).main)
        temperature = jnp.broadcast_to(jnp.array([1.0, 0.0]), keys.shape)
        sampler = TextSampler(
            temperature, longest_answer(model.processor), model.processor.stop_ids
        )
        nothing = jnp.zeros((*keys.shape, 0), jnp.int32)
        return sample_text(model.backbone, params, prefix, nothing, nothing > 0, keys, sampler).ids

    ids = speak(Params(model.base), request, jnp.stack([keys, keys], 1))
    said = [[model.processor.text(row) for row in pair] for pair in ids.tolist()]
    assert said == [[given.samples[0], given.framings[0]] for given in answers]


def test_the_longest_option_fits(model) -> None:
    assert longest_answer(model.processor) == len(["bottom", "right"]) + 1


def test_the_judge_measures_headroom_on_request_only(model) -> None:
    few = judge_understanding(model, Params(model.base), SETTINGS, headroom=False)
    many = judge_understanding(model, Params(model.base), SETTINGS, headroom=True)
    assert set(few.right) == {GREEDY, SAMPLED}
    assert set(many.right) == {GREEDY, SAMPLED, ENSEMBLE, VOTE}
    for measure in few.right:
        np.testing.assert_array_equal(few.right[measure], many.right[measure])
    assert few.seed == SEED and len(FRAMINGS) == 7
