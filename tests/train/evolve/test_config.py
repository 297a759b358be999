"""The configs that come with the package, wrong ones, and folders of other runs."""

import json
from dataclasses import replace
from typing import Any

import pytest

from asg_jax.configs import (
    bagel_7b,
    bagel_tiny,
    blip3o_8b,
    blip3o_tiny,
    vargpt_tiny,
    vargpt_v11,
)
from asg_jax.engine.roles import adapted
from asg_jax.errors import UserError
from asg_jax.models.blip3o.adapters import ROLES
from asg_jax.objectives.drawings import RWR
from asg_jax.prompts import LANGUAGES
from asg_jax.train.evolve.config import FILE, MeshAxes, check_folder, read
from asg_jax.train.evolve.typed import as_config, plain
from asg_jax.train.flags import load_config
from tests.train.evolve.fake import CONFIG


@pytest.mark.parametrize("config", ["bagel_tiny", "vargpt_tiny", "blip3o_tiny"])
def test_objectives_other_than_the_models_own_take_smaller_steps(config):
    method = lambda name: load_config(f"{config}:{name}").to_dict()["method"]
    rate = lambda name: method(name)["generator"]["learning_rate"]
    own, others = rate("asg"), ("internal_gap_sft", "internal_gap_dpo", "silmm_kc", "suder_simpo")
    assert rate("gvu") == rate("suder_grpo") == own
    for name in others:
        assert rate(name) == pytest.approx(own / 5)


@pytest.mark.parametrize(
    "module", [bagel_tiny, bagel_7b, blip3o_8b, blip3o_tiny, vargpt_tiny, vargpt_v11]
)
def test_the_configs_are_sound(module):
    config = read(module.get_config().to_dict())
    assert config.language in LANGUAGES
    assert config.name == module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", [bagel_7b, blip3o_8b, vargpt_v11])
def test_the_large_configs_hold_the_numbers_of_the_paper(module):
    config = read(module.get_config().to_dict())
    assert (config.seed, config.steps, config.checkpoint.every) == (42, 10_000, 50)
    assert (config.dtype, config.remat) == ("bfloat16", "full")
    method = config.method
    assert (method.optimizer.weight_decay, method.optimizer.clip_norm) == (0.01, 1.0)
    assert (method.candidates, method.framings, method.images) == (3, 7, 3)
    roles = method.roles.values()
    assert {(r.learning_rate, r.rank, r.alpha) for r in roles} == {(1e-6, 16, 32.0)}


def test_the_tables_of_blip3o_hold_the_ranks_of_the_paper():
    """16, but for the merger of the vision tower, where the Solver has 4."""
    method = read(blip3o_8b.get_config().to_dict()).method
    specs = adapted("solver", method.solver, ROLES)
    assert [(spec.rank, spec.alpha) for spec in specs] == [(16, 32.0), (4, 8.0)]
    assert (method.sampler.grid, method.sampler.shift) == ((8, 8), 1.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": 0}, "config.steps is 0; it must be at least 1"),
        ({"seed": -1}, "config.seed is -1; it must be at least 0"),
        ({"checkpoint": {"every": 0}}, "config.checkpoint.every is 0"),
        ({"batch": {"generation": 0}}, "config.batch.generation is 0"),
        ({"batch": {"micro": 0}}, "config.batch.micro is 0; it must be at least 1"),
        ({"mesh": {"fsdp": 0}}, "config.mesh.fsdp is 0"),
        ({"watch": {"every": -1}}, "config.watch.every is -1; it must be at least 0"),
        ({"data": {"side": 10**6}}, "config.data.side is 1000000; it must be at least 0 and at mo"),
        ({"replay": {"share": 1.5}}, "config.replay.share is 1.5; it must be at least 0 and at mo"),
        ({"replay": {"share": float("nan")}}, "config.replay.share is nan"),
        ({"sede": 3}, "config.sede is no setting; the nearest is config.seed"),
        ({"eval": {"questions": 0}}, "questions is 0"),
        ({"remat": "some"}, "config.remat is 'some'"),
        ({"method": {"name": "fate"}}, "no method 'fate'; choose one of: fake."),
        (
            {"method": {"name": "fake", "rat": 1.0}},
            "config.method.rat is no .* config.method.rate",
        ),
        ({"method": {"name": "fake", "weights": {"ste": "x"}}}, "config.method.weights.ste is 'x'"),
    ],
)
def test_a_wrong_setting_is_named(fake_methods, change, message):
    with pytest.raises(UserError, match=message):
        read({**plain(CONFIG), **change})


@pytest.mark.parametrize(
    "path, value",
    [
        ("seed", 99999999999),
        ("mesh.tensor", -1),
        ("watch.every", -1),
        ("eval.guidance", float("nan")),
        ("method.understanding_steps", -1),
        ("method.solver.rank", 0),
        ("method.solver.learning_rate", -1.0),
        ("method.solver.learning_rate", float("nan")),
        ("method.generator.alpha", float("inf")),
        ("method.optimizer.clip_norm", float("nan")),
        ("method.temperatures.answer", 0.0),
        ("method.lengths.answer", 0),
        ("method.sampler.steps", 0),
        ("method.sampler.grid", (0, 4)),
    ],
)
def test_a_number_out_of_range_is_named(path, value):
    config = bagel_tiny.get_config()
    with config.unlocked():
        config.update_from_flattened_dict({path: value})
    with pytest.raises(UserError, match=f"config.{path} .* must"):
        read(config.to_dict())


def test_the_settings_of_a_method_go_there_and_back(fake_methods):
    config = as_config(CONFIG)
    assert read(config.to_dict()) == read(plain(CONFIG)) == CONFIG
    config.update({"method": {"weights": {"ste": 0.0}}, "batch": {"micro": 2}})
    changed = read(config.to_dict())
    assert changed.method.weights == {"vote": 1.0, "ste": 0.0} and changed.batch.micro == 2


def test_a_folder_belongs_to_its_settings(tmp_path):
    check_folder(tmp_path, CONFIG)
    (tmp_path / FILE).write_text(json.dumps(plain(CONFIG)))
    check_folder(tmp_path, CONFIG)
    check_folder(tmp_path, replace(CONFIG, mesh=MeshAxes(fsdp=2)))
    with pytest.raises(UserError, match="holds a run with config.seed=3, not 4; name another"):
        check_folder(tmp_path, replace(CONFIG, seed=4))
    other = replace(CONFIG, method=replace(CONFIG.method, rate=0.1))
    with pytest.raises(UserError, match="config.method.rate=0.001, not 0.1"):
        check_folder(tmp_path, other)


@pytest.mark.parametrize("text", ["", '{"name": "fa', "[]", "\xff\x00"])
def test_a_damaged_folder_is_named(tmp_path, text):
    (tmp_path / FILE).write_text(text, encoding="latin1")
    with pytest.raises(UserError, match="config.json is damaged .* remove it, and the command"):
        check_folder(tmp_path, CONFIG)


def test_a_flag_chooses_another_objective():
    config: Any = bagel_tiny.get_config()
    config.method.generator.objective.name = "rwr"
    config.method.generator.objective.rwr.temperature = 2.0
    method = read(config.to_dict()).method
    assert method.generator.objective == RWR(temperature=2.0)
    again = read(plain(read(config.to_dict())))
    assert again.method == method
    config.method.generator.objective.name = "luck"
    with pytest.raises(UserError, match="objective.name is 'luck'; choose one of: rwr, nft"):
        read(config.to_dict())
