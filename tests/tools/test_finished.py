"""What is compared of finished runs: everything but times."""

import json
import shutil
from dataclasses import replace

import jax
import pytest

from asg_jax.train.evolve import run as runs
from asg_jax.train.evolve.config import FILE
from asg_jax.train.evolve.files import write_json
from asg_jax.train.evolve.interruption import Interruption
from asg_jax.train.evolve.logs import Logs
from asg_jax.train.evolve.typed import plain
from tests.train.evolve.fake import CONFIG, FakeJudge, FakeMethod, make_parts
from tools.finished import facts

CONFIG = replace(CONFIG, steps=8, eval=replace(CONFIG.eval, questions=48, prompts=12))


def end(folder, config=CONFIG):
    """Runs to the end; what is found of it."""
    folder.mkdir(exist_ok=True)
    write_json(folder / FILE, plain(config))
    logs = Logs(folder, config.steps)
    try:
        runs.run(make_parts(FakeMethod(), FakeJudge()), config, folder, logs, Interruption())
    finally:
        logs.close()
    return dict(facts(folder))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, end(folder)


def edited(path, change):
    """Changes a JSON file."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


CHANGES = {
    "metrics": (
        "metrics.jsonl",
        lambda path: path.write_text(path.read_text().replace("0.", "1.")),
    ),
    "summary": ("summary.json", lambda path: edited(path, lambda own: own.update(seed=7))),
    "after.json": ("after.json", lambda path: path.write_text(path.read_text() + " ")),
    "before_after.png": ("before_after.png", lambda path: path.write_bytes(b"")),
    "config.json": ("config.json", lambda path: path.write_text("{}")),
    "8: history": (
        "checkpoints/8/host/metadata",
        lambda path: edited(path, lambda own: own["history"].update(nonfinite=1)),
    ),
    "left behind": ("before.json", lambda path: path.with_name(".a.tmp").write_text("")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_under_its_name(finished, tmp_path, name):
    shutil.copytree(finished[0], tmp_path / "run")
    file, change = CHANGES[name]
    change(tmp_path / "run" / file)
    found = dict(facts(tmp_path / "run"))
    assert [key for key in found if found[key] != finished[1][key]] == [name]


def test_another_run_with_the_same_settings_is_equal_and_with_others_is_not(finished, tmp_path):
    assert end(tmp_path / "same") == finished[1]
    other = end(tmp_path / "other", replace(CONFIG, seed=4))
    arrays = [key for key in other if key.startswith("8: [") and other[key] != finished[1][key]]
    state = FakeMethod().init(0)
    assert len(jax.tree.leaves(state)) >= len(arrays) > len(jax.tree.leaves(state)) // 2
    assert any(other[key] != finished[1].get(key) for key in other if key.startswith("replay"))
