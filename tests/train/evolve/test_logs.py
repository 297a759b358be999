"""What a run tells: lines without a terminal, a bar on one, files that survive a kill."""

import json
import sys

import numpy as np
import pytest

from asg_jax.engine.method import Report
from asg_jax.train.evolve.logs import METRICS, SAMPLES, Logs, read_lines, read_metrics

REPORT = Report(
    "understanding",
    {"reward/solver": 0.25, "reward/solver_std": 0.5, "kl/solver": float("inf")},
    [{"question": "a | b?", "reward": 0.123456}],
    {"drawn": np.zeros((4, 4, 3), np.uint8)},
)


@pytest.fixture
def logs(tmp_path):
    logs = Logs(tmp_path, steps=12)
    logs.start(0)
    yield logs
    logs.close()


def tell(logs, *steps):
    for step in steps:
        logs.step(step, REPORT, seconds=2.0)


def test_a_line_every_few_steps(logs, capsys):
    tell(logs, *range(1, 13))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["5/12", "10/12", "12/12"]
    assert "0:00:14 left" in lines[0] and "solver 0.250" in lines[0] and "std" not in lines[0]


def test_a_bar_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    logs = Logs(tmp_path, steps=12)
    logs.start(3)
    tell(logs, 4, 5)
    logs.close()
    told = capsys.readouterr()
    assert told.out == "" and "5/12" in told.err and "solver=0.250" in told.err


def test_the_metrics_are_json_whatever_happens(logs, tmp_path):
    tell(logs, 1, 2, 3)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 4, "pha')  # the process was killed here
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    again = Logs(tmp_path, steps=12)
    again.start(2)
    tell(again, 3)
    again.close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert read_metrics(tmp_path)[0]["kl/solver"] is None


def test_the_status_foretells_the_end(logs, tmp_path):
    read = lambda: json.loads((tmp_path / "status.json").read_text())
    assert (read()["state"], read()["step"], read()["steps"]) == ("training", 0, 12)
    tell(logs, 1, 2)
    assert (read()["step"], read()["eta_seconds"]) == (2, 20)
    logs.status("failed", error="no power")
    assert (read()["state"], read()["error"], read()["step"]) == ("failed", "no power", 2)
    assert not list(tmp_path.glob(".*.tmp"))


def test_questions_and_answers_are_kept_now_and_then(logs, tmp_path):
    tell(logs, 1, 2, 3, 26)
    kept = read_lines(tmp_path / SAMPLES)
    assert [line["step"] for line in kept] == [1, 26]
    assert kept[0]["rows"] == [{"question": "a | b?", "reward": 0.123456}]
    again = Logs(tmp_path, steps=30)
    again.start(20)
    again.close()
    assert [line["step"] for line in read_lines(tmp_path / SAMPLES)] == [1]


class Listener:
    """A board that remembers."""

    def __init__(self):
        self.told = []

    def scalars(self, step, values):
        self.told.append(("scalars", step, dict(values)))

    def table(self, step, name, rows):
        self.told.append(("table", step, name))

    def picture(self, step, name, pixels):
        self.told.append(("picture", step, name))

    def close(self):
        self.told.append(("close",))


def test_boards_are_told_everything(tmp_path):
    board = Listener()
    logs = Logs(tmp_path, 12, [board])
    logs.start(0)
    tell(logs, 1, 2)
    logs.scalars(2, {"eval/greedy": 70.0})
    logs.close()
    assert [told[:2] for told in board.told[:-1]] == [
        *(("scalars", 1), ("table", 1), ("picture", 1)),
        *(("scalars", 2), ("scalars", 2)),
    ]
    assert board.told[0][2]["seconds/understanding"] == 2.0 and board.told[-1] == ("close",)
