"""From answers about drawings to rewards: small results made by hand, no model."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.methods.asg.drawing import mark
from asg_jax.methods.asg.generation import Judgement, Marks, Results, judge, make_lesson
from asg_jax.methods.asg.rollouts import Drawings, Likeness
from asg_jax.methods.asg.settings import Settings, Weights
from asg_jax.methods.asg.specs import Spec
from asg_jax.objectives.policy import batch_advantages, group_advantages

SETTINGS = Settings(questions=2)
NOTHING: Any = None
SPECS = [
    Spec(("what color is it?", "is it red?"), ("red", "yes"), ((1,), (2,)), 1.0, True, "", 1),
    Spec(("how many cups are there?",), ("2",), ((3,),), 0.4, False, "too few", 3),
]
# Two samples for each question, about three drawings of each prompt.
ANSWERS = [
    [["red", "red", "yes", "yes"], ["blue", "red", "no", "no"], ["red cup", "blue", "yes", "no"]],
    [["two", "2", "", ""], ["3", "3", "", ""], ["two", "3", "", ""]],
]


def marks() -> Marks:
    return jax.tree.map(jnp.asarray, mark(["a red cup", None], SPECS, ANSWERS, 2))


LIVE = jnp.array([[[0.9, 0.5], [0.1, 0.1], [0.0, 1.0]]] * 2)  # probabilities of the references
FROZEN = jnp.array([[[0.4, 0.2], [0.3, 0.5], [1.0, 1.0]]] * 2)


def results() -> Results:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 3, 4))
    number = lambda: jnp.asarray(rng.uniform(size=(2, 3)), jnp.float32)
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    values = jnp.zeros((2, 3, 1, 1))
    return Results(
        request=NOTHING,
        drawing=Drawings(values, values, values),
        marks=marks(),
        likeness=Likeness(number(), number(), jnp.asarray(unit, jnp.float32)),
        live=LIVE,
        frozen=FROZEN,
        stream=jnp.array([[0, 2, 4, 7], [0, 2, 5, 7]], jnp.uint32),
    )


def judged(settings: Settings = SETTINGS, found: Results | None = None) -> Judgement:
    return judge(settings, found or results())


def test_answers_are_marked_against_the_references() -> None:
    found = marks()
    assert found.asked.tolist() == [[True, True], [True, False]]
    np.testing.assert_allclose(found.match[0], [[1, 1], [0, 0], [0.8, 1]])
    np.testing.assert_allclose(found.fraction[0], [[1, 1], [0.5, 1], [0.5, 0.5]])
    assert found.contradiction[0].tolist() == [[0, 0], [0, 1], [0, 0]]
    np.testing.assert_allclose(found.disagreement[0], [[0, 0], [0.5, 1], [1, 0.5]])
    assert found.disagreement[1, :, 0].tolist() == [0, 1, 0.5]
    assert found.match[1, :, 1].tolist() == [0, 0, 0]
    assert found.caption_words.tolist() == [3, 0]


def test_rewards_are_those_of_the_formula() -> None:
    found, got = results(), judged()
    np.testing.assert_allclose(got.fidelity[0, :2], [1.0, (0.15 + 0.3) / 2], rtol=1e-6)
    likeness = found.likeness
    cycle = (likeness.caption_similarity + likeness.image_similarity) / 2
    want = 0.65 * got.fidelity + 0.20 * cycle + 0.10 * got.diversity - 0.20 * got.contradiction
    np.testing.assert_allclose(got.reward[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(got.reward[1], 0.4 * want[1], rtol=1e-5)
    assert got.contradiction[0].tolist() == [0, 0.5, 0]
    assert got.diversity[0].max() == 1


def test_drawings_of_rejected_specs_do_not_count() -> None:
    got = judged()
    assert got.mask.tolist() == [[True] * 3, [False] * 3]
    assert got.diversity[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("who", "want"),
    [("live", [[0.7, 0.1, 0.5], [0.9, 0.1, 0.0]]), ("frozen", [[0.3, 0.4, 1.0], [0.4, 0.3, 1.0]])],
)
def test_probabilities_of_the_judge_take_the_place_of_matches(who, want) -> None:
    settings = replace(SETTINGS, fidelity="probability", judge=who)
    np.testing.assert_allclose(judged(settings).fidelity, want, rtol=1e-6)


@pytest.mark.parametrize("part", ["fidelity", "cycle", "diversity", "contradiction"])
def test_each_weight_switches_its_signal(part: str) -> None:
    found = results()
    like = found.likeness
    other = {
        "fidelity": replace(found, marks=replace(found.marks, match=1 - found.marks.match)),
        "cycle": replace(found, likeness=replace(like, image_similarity=like.image_similarity / 2)),
        "diversity": replace(found, likeness=replace(like, features=like.features[:, ::-1])),
        "contradiction": replace(
            found, marks=replace(found.marks, contradiction=1 - found.marks.contradiction)
        ),
    }[part]
    without = replace(SETTINGS, weights=replace(Weights(), **{part: 0.0}))
    same = [
        np.array_equal(judged(settings, found).reward, judged(settings, other).reward)
        for settings in (SETTINGS, without)
    ]
    assert same == [False, True]


def test_all_drawings_teach_by_their_advantages() -> None:
    got = judged()
    lesson = make_lesson(SETTINGS, results(), got)
    np.testing.assert_array_equal(lesson.advantages, group_advantages(got.reward, got.mask))
    assert lesson.advantages[0].any() and not lesson.advantages[1].any()
    assert lesson.mask.tolist() == got.mask.tolist()


def test_advantages_are_scaled_by_the_whole_batch_if_so_wanted() -> None:
    both = results()
    both = replace(both, marks=replace(both.marks, accepted=jnp.array([True, True])))
    got = judged(SETTINGS, both)
    lesson = make_lesson(replace(SETTINGS, advantages="batch"), both, got)
    np.testing.assert_array_equal(lesson.advantages, batch_advantages(got.reward, got.mask))
    assert not np.array_equal(lesson.advantages, group_advantages(got.reward, got.mask))


def test_imitation_takes_the_best_drawing_alone() -> None:
    got = judged()
    lesson = make_lesson(replace(SETTINGS, update="sft"), results(), got)
    best = int(got.reward[0].argmax())
    assert lesson.mask.tolist() == [[n == best for n in range(3)], [False] * 3]
    assert not lesson.advantages.any()


def test_shuffled_rewards_teach_something_else() -> None:
    settings = replace(SETTINGS, shuffled=True)
    both = results()
    both = replace(both, marks=replace(both.marks, accepted=jnp.array([True, True])))
    got = judged(settings, both)
    plain, dealt = (make_lesson(s, both, got).advantages for s in (SETTINGS, settings))
    assert not np.allclose(plain, dealt)
    np.testing.assert_array_equal(got.reward, judged(SETTINGS, both).reward)  # as people see them
