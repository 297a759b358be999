"""The probe of a model's judge: its parts, and what it finds on models that evolve."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from asg_jax.train.data.captions import describe
from asg_jax.train.data.scenes import example
from asg_jax.train.evolve.config import read
from asg_jax.train.flags import load_config

TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "probe_judge.py"))


def test_verdicts_are_those_of_the_exact_detector():
    shown = [example(3, n) for n in range(12)]
    captions = [
        str(describe(scene.items, np.random.default_rng(n))) for n, (scene, _) in enumerate(shown)
    ]
    drawn = np.stack([pixels for _, pixels in shown])
    pairs = np.stack([drawn, np.zeros_like(drawn)], axis=1)  # nothing is to be seen on the second
    assert TOOL["verdicts"](captions, pairs).tolist() == [[1, 0]] * 12
    assert not TOOL["verdicts"]([None, "no caption"], pairs[:2]).any()


def test_only_what_differs_inside_a_group_counts():
    values = np.array([[1.0, 3.0, 9.0], [5.0, 5.0, 5.0]])
    mask = np.array([[True, True, False], [True, True, True]])
    assert TOOL["centred"](values, mask).tolist() == [[-1, 1, 0], [0, 0, 0]]
    cosine = TOOL["cosine"]
    assert cosine(values, -2 * values) == pytest.approx(-1)
    assert cosine(values, np.zeros_like(values)) == 0


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("config", ["bagel_tiny"])
def test_the_judge_sees_and_its_update_points_where_the_detectors_does(config):
    found = TOOL["probe"](read(load_config(config).to_dict()), 4)
    assert 0.1 < found["right"] < 0.9 and found["accepted"] > 0.5
    assert found["correlation"] > 0.3
    assert found["cosine"] > max(0.0, found["chance"]["most"])
