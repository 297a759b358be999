"""Weights & Biases is told of a run where that is asked for; tables become Markdown."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from asg_jax import methods
from asg_jax.errors import UserError
from asg_jax.train.evolve import run
from asg_jax.train.evolve.boards import Wandb, markdown
from asg_jax.train.evolve.config import Watch
from tests.train.evolve.fake import CONFIG, PRESET, FakeMethod, make_parts


def test_rows_become_a_table():
    lines = markdown([{"question": "a | b?", "reward": 0.123456}, {"reward": 1}]).splitlines()
    assert lines == [
        "| question | reward |",
        "| --- | --- |",
        r"| a \| b? | 0.123 |",
        "|  | 1 |",
    ]


@pytest.fixture
def finish(monkeypatch, tmp_path):
    """Takes a whole run of the method without a model."""
    monkeypatch.setattr(methods, "METHODS", {"fake": PRESET})
    monkeypatch.setattr(run, "assemble", lambda config: make_parts(FakeMethod()))
    return lambda mode: run.finish(replace(CONFIG, watch=Watch(wandb=mode)), tmp_path / "run")


def test_it_is_off_unless_asked_for(finish, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert CONFIG.watch.wandb == "off" and finish("off") == 0
    assert not (tmp_path / "run" / "wandb").exists()


def test_without_the_library_the_run_does_not_start(finish, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"needs wandb; install it with pip install"):
        finish("offline")


def test_offline_files_hold_the_run(finish, tmp_path):
    pytest.importorskip("wandb", reason='needs pip install "asg-jax[wandb]"')
    assert finish("offline") == 0
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    told = file.read_bytes()
    for name in (b"reward/solver", b"check/well_formed", b"seconds/generation", b"replay.size"):
        assert name in told
    assert list(file.parent.glob("files/media/images/**/*.png"))


def test_a_board_takes_numbers_tables_and_pictures(tmp_path):
    pytest.importorskip("wandb", reason='needs pip install "asg-jax[wandb]"')
    board = Wandb(tmp_path, "name", {"a.b": 1}, "offline")
    board.scalars(1, {"x": 0.5})
    board.table(1, "said", [{"question": "what?", "reward": 0.5}, {"answer": "red"}])
    board.picture(1, "drawn", np.zeros((4, 4, 3), np.uint8))
    board.close()
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")
    found = json.loads(table.read_text())
    assert found["columns"] == ["question", "reward", "answer"]
    assert found["data"] == [["what?", "0.5", ""], ["", "", "red"]]
