"""The public face: every name is there, nothing is imported before it is used, the model speaks."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import asg_jax
from asg_jax import methods
from asg_jax.train.evolve import run
from tests.train.evolve.fake import CONFIG, PRESET, FakeMethod, make_parts

IMPORT_THE_CORE = """
import importlib, pkgutil, sys
import asg_jax
assert "jax" not in sys.modules, "the package alone imports JAX"
folder = [asg_jax.__path__[0]]
for module in pkgutil.walk_packages(folder, "asg_jax."):
    importlib.import_module(module.name)
wrong = [n for n in sys.modules if n.startswith(("asg_jax.train", "asg_jax.models"))]
assert not wrong, f"the core imports {wrong}"
"""


def test_every_name_is_said_three_times_alike():
    tree = ast.parse(Path(asg_jax.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == asg_jax._HOME and sorted(typed) == sorted(asg_jax.__all__)


@pytest.mark.parametrize("name", asg_jax.__all__)
def test_a_public_name_is_there_and_documented(name):
    value = getattr(asg_jax, name)
    assert value is getattr(asg_jax, name) and name in dir(asg_jax)
    assert isinstance(value, dict) or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'opn_model'"):
        asg_jax.opn_model  # noqa: B018


def test_the_core_imports_neither_programs_nor_models(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_THE_CORE], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def model():
    return asg_jax.open_model("bagel-tiny")


def test_a_model_draws_answers_and_scores(model, tmp_path):
    one, two = model.draw("a red circle", count=2, steps=8, guidance=2.5)
    assert one.size == (32, 32) and np.asarray(one).tobytes() != np.asarray(two).tobytes()
    one.save(tmp_path / "one.png")
    question = "what color is the circle?"
    answer = model.ask(one, question)
    assert answer == model.ask(tmp_path / "one.png", question)
    assert answer.text == "red" and sum(answer.votes.values()) == 7 and answer.entropy >= 0
    said = ["red", "blue", "what"]
    scores = dict(zip(said, model.score(one, question, said), strict=True))
    assert max(scores, key=scores.__getitem__) == "red" and scores["what"] < scores["blue"]
    assert sum(np.exp(list(scores.values()))) <= 1


def test_options_that_a_model_lacks_are_refused(model):
    with pytest.raises(asg_jax.UserError, match="--top_p is no option of this model"):
        model.draw("a red circle", top_p=0.9)


def test_settings_are_changed_by_name():
    config = asg_jax.load_run("bagel_tiny", steps=3, batch__generation=4, method__images=2)
    assert (config.steps, config.batch.generation, config.method.images) == (3, 4, 2)
    with pytest.raises(asg_jax.UserError, match="config.method.images is 0; it must be at least 1"):
        asg_jax.load_run("bagel_tiny", method__images=0)


def test_a_run_from_python_is_the_run_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "METHODS", {"fake": PRESET})
    monkeypatch.setattr(run, "assemble", lambda config: make_parts(FakeMethod()))
    found = asg_jax.evolve(CONFIG, tmp_path / "run")
    assert found["steps"] == CONFIG.steps and (tmp_path / "run" / "summary.json").exists()
    assert asg_jax.evolve(CONFIG, tmp_path / "run") == found
