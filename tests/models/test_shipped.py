"""The checkpoints that come with the package."""

import jax
import numpy as np
import pytest

from asg_jax.models.registry import SHIPPED, open_model, shipped_models
from asg_jax.train.data.grammar import vocabulary


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_opens_by_name_and_is_small(name):
    model = open_model(name)
    files = [file for file in (SHIPPED / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    ids = model.processor.ids(" ".join(word for word in vocabulary() if word.isalpha()))
    assert sorted(set(ids)) == sorted(ids) and len(ids) > 60  # one id for each word it must know
    assert all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(model.base))


def test_scores_and_the_way_to_them_stand_beside_the_weights():
    for name in shipped_models():
        files = {file.name for file in (SHIPPED / name).iterdir()}
        assert {"scores.json", "pretraining.json"} <= files
        assert any(name.endswith(".safetensors") for name in files)
