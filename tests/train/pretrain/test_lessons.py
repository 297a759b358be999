"""Lessons: what is learned, what is told wrong, and that a step is a function of its number."""

from collections import Counter

import jax
import numpy as np
import pytest

from asg_jax.models.registry import small_family
from asg_jax.train.data.grammar import FRAMINGS, Usage, exercise, vocabulary
from asg_jax.train.data.questions import answer, parse_question
from asg_jax.train.data.scenes import HELD_OUT
from asg_jax.train.pretrain.facts import facts
from asg_jax.train.pretrain.lessons import labelled, lessons, pictures
from asg_jax.train.pretrain.settings import LANES, PretrainSettings

SETTINGS = PretrainSettings(scenes=40, seed=5, prompts=16)


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder, family = tmp_path_factory.mktemp("model"), small_family("bagel-tiny")
    family.create("bagel-tiny", folder, vocabulary())
    return family.open(folder, "float32")[1]


def test_a_step_is_a_function_of_its_number(processor):
    first, again, other = (lessons(SETTINGS, processor, n) for n in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert any((a.ids != b.ids).any() for a, b in zip(first.texts, other.texts, strict=True))


def test_shapes_do_not_change(processor):
    shapes = [
        jax.tree.map(lambda leaf: np.shape(leaf), lessons(SETTINGS, processor, n)) for n in range(6)
    ]
    assert all(shape == shapes[0] for shape in shapes)


def test_targets_follow_the_question_and_end_the_turn(processor):
    step = lessons(SETTINGS, processor, 0)
    for lane, lesson in zip(LANES, step.texts, strict=True):
        ids, mask, target = (np.asarray(x) for x in (lesson.ids, lesson.mask, lesson.target))
        assert ids.shape == (lane.contexts, lane.texts, lane.length)
        assert (target <= mask).all() and target.any(-1).all()
        for row, real, said in zip(
            *(x.reshape(-1, lane.length) for x in (ids, mask, target)), strict=True
        ):
            end = int(real.sum())
            start = int(np.argmax(said))
            assert real[:end].all() and said[start:end].all() and not said[:start].any()
            assert row[end - 1] in processor.stop_ids
            assert row[start - 1] == processor.question("")[-1]


def test_answers_are_those_of_the_scene_that_is_shown(processor):
    """Decoded back from the ids, an answer is true of the scene, but for the share that is not."""
    settings = PretrainSettings(scenes=400, wrong=0.3, wordings=(0.8, 0.1, 0.1, 0.0))
    usage, wrong, wordings = settings.usage, 0, Counter()
    for n in range(400):
        scene = labelled(0, n)[0]
        assert not {(item.shape, item.color) for item in scene.items} & set(HELD_OUT)
        one = exercise("answer", np.random.default_rng(n), usage, scene)
        bare = one.instruction.removeprefix("see the image. ").removesuffix(" see the image.")
        question = parse_question(
            bare.removeprefix("answer: ").removesuffix(" answer:").removeprefix("question: ")
        )
        assert question is not None and one.target in question.options
        wrong += one.target != answer(question, scene.items)
        wordings[question.wording] += 1
    assert 0.22 < wrong / 400 < 0.38
    assert wordings[0] > 260 and wordings[3] == 0


def test_framings_come_as_often_as_the_usage_says():
    shares = (0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0)
    usage = Usage(framings=shares)
    told = [exercise("answer", np.random.default_rng(n), usage).instruction for n in range(200)]
    framed = sum(text.startswith(FRAMINGS[1].split("{")[0]) for text in told)
    assert 70 < framed < 130
    assert not any(text.startswith("question:") or "see the image" in text for text in told)


def test_some_pictures_are_drawn_without_a_prompt(processor):
    masks = [
        np.asarray(lessons(SETTINGS, processor, n).drawing.request.prompts.main.mask)
        for n in range(12)
    ]
    empty = [~mask.any(-1) for mask in masks]
    assert 0.02 < np.mean(empty) < 0.25


def test_pictures_are_in_the_unit_range_and_vary():
    batch = np.asarray(pictures(SETTINGS, 8, 0).pixels)
    assert batch.shape == (8, 32, 32, 3)
    assert batch.min() >= 0 and batch.max() <= 1 and batch.std() > 0.05


def test_facts_are_those_of_the_pictures():
    """Of every cell; they are those of the same scenes."""
    told = np.asarray(pictures(SETTINGS, 8, 0).facts)
    other = np.asarray(pictures(SETTINGS, 8, 1).facts)
    assert told.shape == other.shape and (told != other).any()
    known = {facts(labelled(SETTINGS.seed, n)[0]).tobytes() for n in range(SETTINGS.scenes)}
    assert {row.tobytes() for row in told} <= known
