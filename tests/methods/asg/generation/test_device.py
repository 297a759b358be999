"""From answers about drawings to rewards: small results made by hand, no model."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.engine.programs import Likeness
from asg_jax.methods.asg.generation.device import (
    Findings,
    JudgedDrawings,
    Marks,
    Results,
    judge,
    make_lesson,
)
from asg_jax.methods.asg.generation.host import keep, mark
from asg_jax.methods.asg.generation.specs import QASpec
from asg_jax.methods.asg.settings import Settings
from asg_jax.objectives.advantages import batch_advantages, group_advantages
from asg_jax.objectives.drawings import DrawingImitation
from asg_jax.rollout.image import Drawings
from asg_jax.signals.fidelity import Fidelity
from asg_jax.signals.table import DRAWINGS, weights_of

SETTINGS = Settings(questions=2)
IMITATING = replace(SETTINGS, generator=replace(SETTINGS.generator, objective=DrawingImitation()))
NOTHING: Any = None
SPECS = [
    QASpec(("what color is it?", "is it red?"), ("red", "yes"), ((1,), (2,)), 1.0, True, 1),
    QASpec(("how many cups are there?",), ("2",), ((3,),), 0.4, False, 3),
]
# Two samples for each question, about three drawings of each prompt.
ANSWERS = [
    [["red", "red", "yes", "yes"], ["blue", "red", "no", "no"], ["red cup", "blue", "yes", "no"]],
    [["two", "2", "", ""], ["3", "3", "", ""], ["two", "3", "", ""]],
]


def marks() -> Marks:
    return jax.tree.map(jnp.asarray, mark(["a red cup", None], SPECS, ANSWERS, 2, Fidelity()))


LIVE = jnp.array([[[0.9, 0.5], [0.1, 0.1], [0.0, 1.0]]] * 2)  # probabilities of the references


def unit(*shape: int, seed: int = 0) -> jnp.ndarray:
    """Normalised embeddings."""
    x = np.abs(np.random.default_rng(seed).normal(size=shape))
    return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), jnp.float32)


def results() -> Results:
    values = jnp.zeros((2, 3, 1, 1))
    pictures = jnp.arange(2 * 3, dtype=jnp.uint8).reshape(2, 3, 1, 1, 1)
    likelihood = -unit(2, 3, seed=4)
    return Results(
        request=NOTHING,
        drawn=Drawings(values, values, pictures, NOTHING),
        findings=Findings(
            marks(),
            Likeness(
                unit(2, 4), unit(2, 3, 4, seed=1), unit(2, 3, 4, seed=2), likelihood, unit(2, 3, 4)
            ),
            LIVE,
            None,
        ),
        stream=jnp.array([[0, 2, 4, 0, 7], [0, 2, 5, 1, 7]], jnp.uint32),
    )


def seen(found: Results, **facts: Any) -> Results:
    """The same drawings, of which something else was found out."""
    return replace(found, findings=replace(found.findings, **facts))


def judged(settings: Settings = SETTINGS, found: Results | None = None) -> JudgedDrawings:
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
    signals, like = got.signals, found.findings.likeness
    assert like.prompts is not None
    np.testing.assert_allclose(signals["vote_fidelity"][0, :2], [1.0, (0.15 + 0.3) / 2], rtol=1e-6)
    prompts = like.prompts
    cosine = lambda x: jnp.clip((x * prompts[:, None]).sum(-1), 0, 1)
    cycle = (cosine(like.captions) + cosine(like.pictures)) / 2
    np.testing.assert_allclose(signals["cosine_cycle"], cycle, rtol=1e-6)
    want = 0.65 * signals["vote_fidelity"] + 0.20 * cycle + 0.10 * signals["diversity"]
    want -= 0.20 * signals["contradiction"]
    np.testing.assert_allclose(got.reward[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(got.reward[1], 0.4 * want[1], rtol=1e-5)
    assert signals["contradiction"][0].tolist() == [0, 0.5, 0]
    assert signals["diversity"][0].max() == 1


def test_a_prompt_with_fewer_questions_contradicts_itself_in_what_was_asked() -> None:
    found = results()
    contradiction = jnp.ones_like(found.findings.marks.contradiction)
    found = seen(found, marks=replace(found.findings.marks, contradiction=contradiction))
    np.testing.assert_array_equal(judged(found=found).signals["contradiction"], 1)


def test_the_best_drawing_of_an_accepted_spec_is_kept() -> None:
    got = judged()
    best = int(got.reward[0].argmax())
    assert got.picture[:, 0, 0, 0].tolist()[0] == best
    (kept,) = keep(jax.device_get(got), 0.0)
    assert kept.reward == pytest.approx(float(got.reward[0, best]))
    assert int(kept.pixels[0, 0, 0]) == best
    assert keep(jax.device_get(got), 1.1) == []


def test_drawings_of_rejected_specs_do_not_count() -> None:
    got = judged()
    assert got.mask.tolist() == [[True] * 3, [False] * 3]
    assert got.signals["diversity"][1].tolist() == [0, 0, 0]


def test_probabilities_take_the_place_of_matches() -> None:
    settings = replace(SETTINGS, weights=weights_of(DRAWINGS, probability_fidelity=1.0))
    got = judged(settings).signals
    want = [[0.7, 0.1, 0.5], [0.9, 0.1, 0.0]]
    np.testing.assert_allclose(got["probability_fidelity"], want, rtol=1e-6)
    assert set(got) == {"probability_fidelity"}


@pytest.mark.parametrize("name", ["vote_fidelity", "cosine_cycle", "diversity", "contradiction"])
def test_each_weight_switches_its_signal(name: str) -> None:
    found = results()
    like, noted = found.findings.likeness, found.findings.marks
    pictures: Any = like.pictures
    features: Any = like.features
    other = {
        "vote_fidelity": seen(found, marks=replace(noted, match=1 - noted.match)),
        "cosine_cycle": seen(found, likeness=replace(like, pictures=pictures[:, ::-1])),
        "diversity": seen(found, likeness=replace(like, features=features[:, ::-1])),
        "contradiction": seen(found, marks=replace(noted, contradiction=1 - noted.contradiction)),
    }[name]
    without = replace(SETTINGS, weights={**SETTINGS.weights, name: 0.0})
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
    assert lesson.kept.tolist() == got.mask.tolist()


def test_advantages_are_scaled_by_the_whole_batch_if_so_wanted() -> None:
    both = results()
    both = seen(both, marks=replace(both.findings.marks, accepted=jnp.array([True, True])))
    got = judged(SETTINGS, both)
    lesson = make_lesson(replace(SETTINGS, advantages="batch"), both, got)
    np.testing.assert_array_equal(lesson.advantages, batch_advantages(got.reward, got.mask))
    assert not np.array_equal(lesson.advantages, group_advantages(got.reward, got.mask))


def test_imitation_takes_the_best_drawing_alone() -> None:
    got = judged()
    lesson = make_lesson(IMITATING, results(), got)
    best = int(got.reward[0].argmax())
    assert lesson.kept.tolist() == [[n == best for n in range(3)], [False] * 3]


def test_shuffled_rewards_teach_something_else() -> None:
    settings = replace(SETTINGS, shuffled=True)
    both = results()
    both = seen(both, marks=replace(both.findings.marks, accepted=jnp.array([True, True])))
    got = judged(settings, both)
    plain, dealt = (make_lesson(s, both, got).advantages for s in (SETTINGS, settings))
    assert not np.allclose(plain, dealt)
    np.testing.assert_array_equal(got.reward, judged(SETTINGS, both).reward)  # as people see them
