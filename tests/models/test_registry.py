"""Models by name: official and converted folders, random weights, clear errors."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from asg_jax.backbone import Backbone, Processor
from asg_jax.errors import UserError
from asg_jax.models.registry import CONVERTED, open_model, save_converted
from asg_jax.train.mesh import make_mesh
from tests import goldens


@pytest.fixture(scope="module")
def official():
    return open_model(str(goldens.folder("bagel/model")))


@pytest.fixture(scope="module")
def converted(official, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted")
    save_converted(folder, official)
    return folder


def test_a_model_has_what_programs_need(official):
    assert isinstance(official.backbone, Backbone)
    assert isinstance(official.processor, Processor)
    assert {leaf.dtype for leaf in jax.tree.leaves(official.base)} == {jnp.dtype("float32")}


def test_a_converted_model_is_the_same(official, converted):
    again = open_model(str(converted))
    assert again.backbone == official.backbone
    jax.tree.map(np.testing.assert_array_equal, again.base, official.base)
    assert again.processor.ids("kite") == official.processor.ids("kite")


def test_a_converted_model_opens_in_another_dtype(official, converted):
    again = open_model(str(converted), "bfloat16")
    head = again.base["language"]["lm_head"]["table"]
    assert head.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        head, official.base["language"]["lm_head"]["table"].astype(jnp.bfloat16)
    )
    assert jax.tree.leaves(again.base["vae"])[0].dtype == jnp.float32


def test_a_converted_model_opens_on_a_mesh(official, converted):
    again = open_model(str(converted), mesh=make_mesh(fsdp=2, tensor=2))
    head = again.base["language"]["lm_head"]["table"]
    assert head.sharding.spec == PartitionSpec(("fsdp", "tensor"), None)
    jax.tree.map(np.testing.assert_array_equal, again.base, official.base)


def test_converting_over_a_model_is_refused(official, converted):
    with pytest.raises(UserError, match="exists already"):
        save_converted(converted, official)


def test_converted_weights_must_be_finite(official, tmp_path):
    base = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), official.base)
    save_converted(tmp_path / "nan", replace(official, base=base))
    with pytest.raises(UserError, match="not finite"):
        open_model(str(tmp_path / "nan"))


@pytest.mark.parametrize("damage", ["emptied", "of another model"])
def test_damaged_conversions_are_one_clear_line(converted, tmp_path, damage):
    folder = shutil.copytree(converted, tmp_path / "model")
    if damage == "emptied":
        shutil.rmtree(folder / CONVERTED)
        (folder / CONVERTED).mkdir()
    else:
        config = json.loads((folder / "llm_config.json").read_text())
        config["vocab_size"] += 8
        (folder / "llm_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        open_model(str(folder))
    assert str(folder) in str(caught.value)


def test_an_unknown_size_is_one_clear_line():
    with pytest.raises(UserError, match="bagel-7b"):
        open_model("random:bagel-8b")


def test_unknown_folders_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        open_model(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="no checkpoint of a known model"):
        open_model(str(tmp_path))
