"""The configs that come with the package, wrong ones, and folders of other runs."""

import json
from dataclasses import replace

import pytest

from asg_jax.configs import bagel_7b, bagel_tiny, blip3o_8b, vargpt_tiny, vargpt_v11
from asg_jax.errors import UserError
from asg_jax.methods.asg.settings import check
from asg_jax.models.blip3o.adapters import ROLES
from asg_jax.prompts import LANGUAGES
from asg_jax.train.evolve.config import FILE, MeshAxes, check_folder, read
from asg_jax.train.evolve.typed import plain
from tests.train.evolve.fake import CONFIG

KINDS = {
    bagel_tiny: "flow",
    bagel_7b: "flow",
    blip3o_8b: "flow",
    vargpt_tiny: "bits",
    vargpt_v11: "bits",
}


@pytest.mark.parametrize("module", KINDS)
def test_the_configs_are_sound(module):
    config = read(module.get_config().to_dict())
    check(config.method, KINDS[module])
    assert config.language in LANGUAGES
    assert config.name == module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", [bagel_7b, vargpt_v11])
def test_the_large_configs_hold_the_numbers_of_the_paper(module):
    config = read(module.get_config().to_dict())
    assert (config.seed, config.steps, config.checkpoint.every) == (42, 10_000, 50)
    assert (config.dtype, config.remat) == ("bfloat16", "full")
    method = config.method
    assert (method.weight_decay, method.clip_norm) == (0.01, 1.0)
    assert (method.candidates, method.framings, method.images) == (3, 7, 3)
    assert {
        (r.learning_rate, r.rank, r.alpha) for r in map(method.role, ("proposer", "solver"))
    } == {(1e-6, 16, 32.0)}


def test_the_tables_of_blip3o_hold_the_ranks_of_the_paper():
    """16, but for the merger of the vision tower, where the Solver has 4."""
    method = read(blip3o_8b.get_config().to_dict()).method
    assert (method.solver.rank, method.solver.alpha) == (None, None)
    assert [(spec.rank, spec.alpha) for spec in ROLES["solver"]] == [(16, 32.0), (4, 8.0)]
    assert (method.generator.rank, method.generator.alpha) == (16, 32.0)
    assert (method.sampler.grid, method.sampler.shift) == ((8, 8), 1.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": 0}, "config.steps is 0; it must be at least 1"),
        ({"checkpoint": {"every": 0}}, "config.checkpoint.every is 0"),
        ({"batch": {"generation": 0}}, "config.batch.generation is 0"),
        ({"replay": {"share": 1.5}}, r"config.replay.share is 1.5; it must be in \[0, 1\]"),
        ({"sede": 3}, "config.sede is no setting; the nearest is config.seed"),
        ({"eval": {"questions": 0}}, "questions is 0"),
        ({"remat": "some"}, "config.remat is 'some'"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(UserError, match=message):
        read({**plain(CONFIG), **change})


def test_a_folder_belongs_to_its_settings(tmp_path):
    check_folder(tmp_path, CONFIG)
    (tmp_path / FILE).write_text(json.dumps(plain(CONFIG)))
    check_folder(tmp_path, CONFIG)
    check_folder(tmp_path, replace(CONFIG, mesh=MeshAxes(fsdp=2)))
    with pytest.raises(UserError, match="holds a run with config.seed=3, not 4; name another"):
        check_folder(tmp_path, replace(CONFIG, seed=4))
    other = replace(CONFIG.method, solver=replace(CONFIG.method.solver, learning_rate=0.1))
    with pytest.raises(UserError, match="config.method.solver.learning_rate=1e-06, not 0.1"):
        check_folder(tmp_path, replace(CONFIG, method=other))
