"""Texts and pictures become arrays of the same shapes in every step."""

from typing import Any

import jax
import numpy as np
import pytest

from asg_jax.backbone import Params
from asg_jax.engine.method import Examples
from asg_jax.engine.programs import Lengths
from asg_jax.engine.texts import Scribe, fit_rows, framings
from asg_jax.errors import UserError
from asg_jax.methods.asg.purposes import Purpose
from asg_jax.prompts import SCENES
from asg_jax.rollout.text import Texts
from tests.tiny import flows, spoken

LONG = "is the red circle left of the blue square?"


@pytest.fixture(scope="module")
def scribe(model) -> Scribe:
    return Scribe(model.processor, SCENES, Lengths(question=8, answer=3, caption=6, spec=4))


def rollout(ids: list[list[list[int]]]) -> Texts:
    """What a role said, of these tokens and -1 for padding."""
    return spoken(np.array(ids)).texts


@flows  # the other has longer markers
def test_texts_are_padded_on_the_right_and_long_ones_left_out(scribe: Scribe, model) -> None:
    told = scribe.tell([["a red circle", "a"], ["circle", LONG]], 6)
    assert told.ids.shape == told.mask.shape == (2, 2, 6)
    assert told.mask.sum(-1).tolist() == [[6, 4], [4, 0]]
    assert told.ids[0, 0].tolist() == model.processor.question("a red circle")
    assert told.ids[0, 1].tolist() == [*model.processor.question("a"), 0, 0]


def test_what_was_said_is_heard_up_to_the_stop_token(scribe: Scribe, model) -> None:
    said = model.processor.ids("a red circle")
    stop = model.processor.stop_ids[0]
    heard = scribe.hear(rollout([[[*said, stop], [*said[:2], stop, -1]]]))
    assert heard == [["a red circle", "a red"]]


def test_questions_and_captions_that_do_not_fit_are_none(scribe: Scribe, model) -> None:
    ids = model.processor.ids
    short = "is the circle red?"
    assert scribe.questions(rollout([[ids(short)]])) == [[short]]
    assert scribe.questions(rollout([[ids(LONG)]])) == [[None]]
    assert scribe.captions(rollout([[ids("a red circle")]])) == ["a red circle"]
    assert scribe.captions(rollout([[ids("a red circle and a blue square")]])) == [None]


def test_all_framings_of_a_question_that_fits_have_room(scribe: Scribe) -> None:
    question = "is the circle red?"
    assert scribe.is_askable(question)
    assert scribe.tell([SCENES.frame(question)], scribe.framed).mask.any(-1).all()


@pytest.mark.parametrize(
    "ask", [lambda s, t: s.order(t).prompts.main, lambda s, t: s.sentences(t).prompt]
)
def test_captions_of_every_length_have_as_many_rows(scribe: Scribe, ask) -> None:
    shapes = [
        jax.tree.map(np.shape, ask(scribe, [text])) for text in ("", "a red circle", LONG[:22])
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_words_are_what_is_embedded(scribe: Scribe, model) -> None:
    sentence = scribe.sentences(["a red circle", ""])
    ids = np.asarray(sentence.prompt.ids)
    assert ids[sentence.words].tolist() == model.processor.ids("a red circle")


def test_rows_are_added_and_cut_without_a_change(model) -> None:
    """The states of what is real stay the same."""
    prompt = model.processor.prompt([["a red circle"], ["circle"]], "embed").prompts.main
    states = jax.jit(model.backbone.states)
    params = Params(model.base)
    real = np.asarray(prompt.mask)
    want = np.asarray(states(params, prompt))[real]
    for rows in (5, 20):
        fitted = fit_rows(prompt, rows)
        got = np.asarray(states(params, fitted))[np.asarray(fitted.mask)]
        assert fitted.ids.shape == (2, rows)
        np.testing.assert_allclose(got, want, atol=1e-5)
    with pytest.raises(ValueError, match="4 rows"):
        fit_rows(prompt, 4)


@flows  # the other resizes pictures and drawings alike
def test_drawings_that_the_tower_would_resize_are_refused(scribe: Scribe) -> None:
    assert scribe.frame(32, 32, 2).ids.shape[0] == 2
    with pytest.raises(UserError, match="40 x 40"):
        scribe.frame(40, 40, 2)


def test_random_numbers_differ_by_seed_step_picture_place_and_purpose() -> None:
    nothing: Any = None
    rows = [
        row
        for seed in (0, 1)
        for step in (1, 2)
        for purpose in (Purpose.ASK, Purpose.SOLVE)
        for row in Examples(seed, step, (5, 6, 5), (0, 1, 2), nothing).stream(purpose).tolist()
    ]
    assert len({tuple(row) for row in rows}) == len(rows) == 24


def test_temperature_alone_takes_the_canonical_framing_every_time() -> None:
    framed, plain = (framings(8, SCENES, on, "is it red?") for on in (True, False))
    assert framed[:7] == SCENES.frame("is it red?") and framed[7] == framed[0]
    assert plain == ["is it red?"] * 8
