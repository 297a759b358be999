"""What a config names is opened, and what does not fit is refused before that takes long."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from asg_jax import methods
from asg_jax.adapters import linear_maps
from asg_jax.configs import bagel_tiny
from asg_jax.engine.method import Preset
from asg_jax.engine.model import UnifiedModel
from asg_jax.errors import UserError
from asg_jax.models.bagel.sharding import RULES
from asg_jax.ops.int8 import Int8
from asg_jax.train.evolve.config import Batch, Data, MeshAxes
from asg_jax.train.evolve.parts import assemble, open_parts
from tests.train.evolve.fake import CONFIG, FakeSettings


@pytest.fixture
def config(tmp_path):
    """A run on a model that is shipped and a folder of one picture."""
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "black.png")
    batch = Batch(understanding=16, generation=8, micro=2)
    named = {"model": "bagel-tiny", "language": "english", "data": Data(folder=str(tmp_path))}
    return replace(CONFIG, batch=batch, mesh=MeshAxes(fsdp=2, tensor=2, rollouts="pmap"), **named)


def test_the_method_gets_what_the_config_says(config, monkeypatch):
    given = {}
    make: Any = lambda **parts: given.update(parts)
    preset = Preset(FakeSettings, make=make)
    monkeypatch.setattr(methods, "METHODS", {"fake": preset}, raising=False)
    parts = assemble(config)
    assert isinstance(given["model"], UnifiedModel) and "solver" in given["model"].modules
    assert (given["settings"], given["micro"]) == (config.method, 2)
    assert given["sizes"] == {"understanding": 16, "generation": 8}
    assert given["placement"] is parts.placement and parts.placement.rules is RULES
    assert (parts.placement.shares, parts.placement.style) == (4, "pmap")
    assert parts.judge is None and len(parts.source) == 1
    assert parts.facts["pictures"].startswith("1 pictures")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": Batch(understanding=6)}, "batch.understanding is 6, which 4 parts of the mesh"),
        ({"language": "klingon"}, "no language 'klingon'; config.language is one of"),
        ({"mesh": MeshAxes(fsdp=3)}, "8 devices cannot be cut into fsdp=3 times tensor=1"),
        ({"data": Data(folder="/nowhere")}, "/nowhere is no folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_model_is_opened(config, change, message):
    with pytest.raises(UserError, match=message):
        assemble(replace(config, model="not there", **change))


def test_a_base_in_8_bits_is_cut_like_its_kernels(config):
    run = replace(bagel_tiny.RUN, data=config.data, quantize="int8", mesh=MeshAxes(fsdp=2))
    opened = open_parts(run)
    held = linear_maps(opened.model.base)
    eight = {path: one for path, one in held.items() if isinstance(one, Int8)}
    assert eight and all(path.startswith("language.layers.") for path in eight)
    assert all(one.values.dtype == np.int8 for one in eight.values())
    assert any("fsdp" in str(one.values.sharding) for one in eight.values())
