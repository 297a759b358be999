import numpy as np
import pytest

from asg_jax.train.benchmarks.power import RIGHT
from asg_jax.train.benchmarks.trials import KINDS, TRICKS, renders, scene_of, tricked
from asg_jax.train.data.captions import holds
from asg_jax.train.data.scenes import COLORS
from asg_jax.train.evaluate.detector import detect
from asg_jax.train.evaluate.prompts import prompt_set

COUNT = 60


@pytest.fixture(scope="module")
def trial():
    return renders(7, COUNT)


def test_the_exact_detector_finds_every_right_render_and_no_other(trial) -> None:
    prompts = prompt_set(7, COUNT)
    for prompt, row, exists, kinds in zip(
        prompts, trial.pictures, trial.truth.exists, trial.truth.kinds, strict=True
    ):
        for seen, real, kind in zip(detect(row), exists, kinds, strict=True):
            assert not real or prompt.met(seen) == (kind == RIGHT)


def test_every_kind_of_fault_occurs_where_the_text_tells_of_it(trial) -> None:
    kinds = np.array(trial.truth.kinds)
    assert all((kinds == kind).any() for kind in KINDS)
    assert (kinds[:, 0] == RIGHT).all() and (kinds[:, -1] == "unrelated").all()
    for text, row in zip(trial.texts, trial.truth.kinds, strict=True):
        if "color" in row:
            assert any(color in text for color in COLORS)


def test_references_are_right_and_other_pictures(trial) -> None:
    prompts = prompt_set(7, COUNT)
    assert trial.references is not None
    seen = detect(trial.references)
    assert all(p.met(own) for p, own in zip(prompts, seen, strict=True))
    assert (trial.references != trial.pictures[:, 0]).any((1, 2, 3)).all()


def test_the_set_is_a_function_of_its_seed(trial) -> None:
    assert np.array_equal(renders(7, COUNT).pictures, trial.pictures)
    assert not np.array_equal(renders(8, COUNT).pictures, trial.pictures)


def test_scenes_meet_their_caption() -> None:
    for n, prompt in enumerate(prompt_set(3, 120)):
        scene = scene_of(prompt.caption, np.random.default_rng(n))
        assert holds(prompt.caption, scene.items)


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_keep_shape_and_kind(name: str, trial) -> None:
    rng = np.random.default_rng(0)
    tricked = TRICKS[name](trial.pictures, trial.texts, rng)
    assert tricked.shape == trial.pictures.shape and tricked.dtype == np.uint8
    assert (tricked != trial.pictures).any((1, 2, 3, 4)).all()


def test_written_text_is_to_be_seen(trial) -> None:
    tricked = TRICKS["written"](trial.pictures, trial.texts, np.random.default_rng(0))
    assert ((tricked > 128).mean((1, 2, 3, 4)) > 0.02).all()


def test_fakes_stand_beside_the_right_picture(trial) -> None:
    beside = tricked(trial, np.random.default_rng(0))
    assert np.array_equal(beside.pictures[:, 0], trial.pictures[:, 0])
    assert beside.truth.kinds[0] == [RIGHT, "blank", "noise", "written"]
    assert beside.pictures.shape[1] == 4 and np.ptp(beside.pictures[:, 1], (2, 3)).max() == 0
