"""The folder of a run opens as a model whose roles have learned."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from asg_jax.adapters import init_roles
from asg_jax.engine.state import RoleState, TrainState
from asg_jax.errors import UserError
from asg_jax.models import peft
from asg_jax.models.registry import open_model
from asg_jax.train.evolve.learned import ADAPTERS, export, open_roles
from asg_jax.train.main import main
from tests import goldens


@pytest.fixture(scope="module")
def official() -> str:
    """The folder of the golden model."""
    return str(goldens.folder("bagel/model"))


@pytest.fixture(scope="module")
def learned(official):
    """Random adapters of three roles."""
    model = open_model(official)
    roles = jax.eval_shape(lambda: init_roles(jax.random.key(0), model.base, model.family.roles))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), roles)


@pytest.fixture(scope="module")
def run(official, learned, tmp_path_factory) -> str:
    """A folder as a run on the golden model leaves it."""
    folder, model = tmp_path_factory.mktemp("run"), open_model(official)
    (folder / "config.json").write_text(json.dumps({"model": official}))
    for role, adapter in learned.items():
        peft.save(folder / ADAPTERS / role, adapter, model.official_module, official)
    return str(folder)


def test_each_role_has_its_own_adapter(run, learned) -> None:
    _, roles = open_roles(run)
    adapters = {role: params.adapter for role, params in roles.items()}
    jax.tree.map(np.testing.assert_array_equal, adapters, dict(learned))


def test_the_roles_of_a_model_are_the_model_itself(official) -> None:
    _, roles = open_roles(official)
    assert roles["solver"].adapter is None and roles["generator"].adapter is None


def test_commands_use_the_role_that_their_task_is(official, run, tmp_path, capsys) -> None:
    words = ["--steps=2", "--count=1", "--height=32", "--width=32"]
    drawn, said = [], []
    for name in (official, run):
        out = tmp_path / str(len(drawn))
        assert main(["generate", f"--model={name}", "a kite", f"--out={out}", *words]) == 0
        drawn.append(np.asarray(Image.open(out / "0000.png")))
        capsys.readouterr()
        asked = ["what is it?", f"--image={tmp_path / '0' / '0000.png'}", "--max_tokens=4"]
        assert main(["ask", f"--model={name}", *asked]) == 0
        said.append(capsys.readouterr().out)
    assert not np.array_equal(*drawn)
    assert said[0] != said[1]


def test_a_folder_without_a_run_s_config_is_no_run(tmp_path) -> None:
    (tmp_path / ADAPTERS).mkdir()
    with pytest.raises(UserError, match="no checkpoint of a known model"):
        open_roles(str(tmp_path))


def test_a_role_that_learned_nothing_is_the_model_itself(official, learned, tmp_path) -> None:
    model = open_model(official)
    folder = tmp_path / ADAPTERS / "solver"
    peft.save(folder, learned["solver"], model.official_module, official)
    (tmp_path / "config.json").write_text(json.dumps({"model": official}))
    _, roles = open_roles(str(tmp_path))
    assert roles["solver"].adapter is not None and roles["generator"].adapter is None


def test_a_damaged_run_is_named(official, tmp_path) -> None:
    (tmp_path / ADAPTERS / "solver").mkdir(parents=True)
    (tmp_path / "config.json").write_text(json.dumps({"model": official}))
    with pytest.raises(UserError, match=r"solver.*is missing"):
        open_roles(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config.json is damaged \(without model\)"):
        open_roles(str(tmp_path))


def test_every_role_is_exported_with_what_it_is_evaluated_with(official, learned, tmp_path) -> None:
    zero = jax.tree.map(np.zeros_like, learned)
    roles = {
        name: RoleState(adapter, zero[name] if name == "solver" else None, (), jnp.float32(0))
        for name, adapter in learned.items()
    }
    state = TrainState(jnp.int32(0), jnp.int32(1), roles, jnp.int32(0), {})
    export(open_model(official), official, state, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model": official}))
    found = {name: params.adapter for name, params in open_roles(str(tmp_path))[1].items()}
    jax.tree.map(np.testing.assert_array_equal, found, dict(learned) | {"solver": zero["solver"]})
