"""A whole run with a judge of its own: what is judged once, and what the summary tells."""

import json
import os
import signal
from dataclasses import replace

import pytest
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.train.evaluate.scores import Scores
from asg_jax.train.evolve import run as runs
from asg_jax.train.evolve.config import Watch
from asg_jax.train.evolve.interruption import Interruption
from asg_jax.train.evolve.logs import Logs
from asg_jax.train.evolve.summary import lines
from tests.train.evolve.fake import CONFIG, FakeJudge, FakeMethod, make_parts

CONFIG = replace(CONFIG, steps=12, eval=replace(CONFIG.eval, questions=48, prompts=12))


def finish(folder, judge, method=None, config=CONFIG):
    logs = Logs(folder, config.steps)
    try:
        runs.run(make_parts(method or FakeMethod(), judge), config, folder, logs, Interruption())
    finally:
        logs.close()
    return json.loads((folder / runs.SUMMARY).read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, finish(folder, FakeJudge())


def test_the_summary_tells_what_was_gained(finished):
    folder, found = finished
    before, after = (Scores.load(folder / f"{name}.json") for name in ("before", "after"))
    for name, where in {
        "understanding": ("understanding", "greedy"),
        "sampled": ("understanding", "sampled"),
        "generation": ("generation", "drawn"),
    }.items():
        gain = found[name]
        assert gain["before"] == pytest.approx(before.points(*where))
        assert gain["after"] == pytest.approx(after.points(*where))
        assert gain["delta"] == pytest.approx(gain["after"] - gain["before"], abs=1e-3)
        assert gain["ci95"][0] <= gain["delta"] <= gain["ci95"][1]
        assert all(
            kind.keys() == {"before", "after", "delta", "ci95"} for kind in gain["by_kind"].values()
        )
    assert found["understanding"]["delta"] > 0
    assert found["wording"].keys() == {"seen", "unseen"}
    assert set(found["generation"]["by_kind"]) == {
        "single",
        "two",
        "counting",
        "colors",
        "position",
        "attribution",
    }
    assert (found["seed"], found["steps"], found["recompilations"]) == (3, 12, 0)
    assert found["seconds_per_phase"].keys() >= {
        "understanding",
        "generation",
        "data",
        "evaluation",
    }
    assert found["seconds"] > 0


def test_the_summary_holds_the_checks(finished):
    checks = finished[1]["checks"]
    assert checks["well_formed"] == {"first": 1.5, "last": 11.5}  # the fake tells its step
    drawn = checks["drawn"]
    assert drawn.keys() == {"colors", "open_colors", "counts"}
    assert drawn["colors"].keys() == {"asked", "before", "after"}
    assert sum(drawn["counts"]["asked"].values()) == pytest.approx(1)
    assert drawn["counts"]["before"]["0"] == 1  # a black picture shows nothing


def test_the_run_ends_in_a_picture_and_a_table(finished):
    folder, found = finished
    with Image.open(folder / runs.PICTURE) as picture:
        assert min(picture.size) > 100
    table = "\n".join(lines(found))
    assert "questions, greedy" in table and f"{found['understanding']['delta']:+.1f}" in table
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["step"], status["eta_seconds"]) == ("finished", 12, 0)


def test_the_first_judgement_is_made_once(tmp_path):
    judge = FakeJudge()
    with pytest.raises(RuntimeError, match="power"):
        finish(tmp_path, judge, FakeMethod(fails=6))
    assert judge.steps == [None]
    finish(tmp_path, judge)
    assert judge.steps == [None, 12]


def test_short_judgements_on_the_way(tmp_path):
    judge = FakeJudge()
    config = replace(CONFIG, watch=Watch(every=5, questions=8, prompts=6))
    finish(tmp_path, judge, config=config)
    assert judge.steps == [None, 5, 10, 12]
    assert judge.asked == [48, 8, 8, 48]


def test_without_a_judge_there_are_no_scores(tmp_path):
    found = finish(tmp_path, None)
    assert "understanding" not in found and found["steps"] == 12
    assert not (tmp_path / "before.json").exists()
    assert list(lines(found))


def end(folder, monkeypatch, parts=None, config=CONFIG):
    """What the command does with a folder."""
    monkeypatch.setattr(runs, "assemble", lambda config: parts or make_parts(FakeMethod()))
    return runs.finish(config, folder)


def status(folder):
    return json.loads((folder / "status.json").read_text())["state"]


def test_a_refused_start_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(config):
        raise UserError("there is no folder pisc")

    monkeypatch.setattr(runs, "assemble", refuse)
    with pytest.raises(UserError, match="pisc"):
        runs.finish(CONFIG, tmp_path / "w")
    assert not (tmp_path / "w").exists()
    assert end(tmp_path / "w", monkeypatch) == 0
    assert status(tmp_path / "w") == "finished"


def test_a_folder_in_use_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    with runs.claimed(tmp_path, CONFIG):
        with pytest.raises(UserError, match=f"another process .{os.getpid()} on .* works in"):
            end(tmp_path, monkeypatch, parts="not needed")


@pytest.mark.parametrize("left", ["evaluating", "stopped", "training", None])
def test_the_status_of_a_finished_run_is_put_right(tmp_path, monkeypatch, left):
    assert end(tmp_path, monkeypatch) == 0
    (tmp_path / "status.json").unlink()
    if left:
        (tmp_path / "status.json").write_text(json.dumps({"state": left}))
    assert end(tmp_path, monkeypatch, parts="not needed") == 0
    assert status(tmp_path) == "finished"


def test_unfinished_files_of_a_killed_process_go(tmp_path, monkeypatch):
    (tmp_path / ".status.json.tmp").write_text("{")
    end(tmp_path, monkeypatch)
    assert not list(tmp_path.glob(".*.tmp"))


class Asking(FakeJudge):
    """Somebody asks to stop while the evolved model is judged."""

    def __call__(self, state, settings, headroom=True):
        if state is not None and len(self.steps) < 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__call__(state, settings, headroom)


class AskingAtTheEnd(FakeMethod):
    """Somebody asks to stop in the last step."""

    def step(self, state, examples):
        if int(state.step) == CONFIG.steps - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(state, examples)


@pytest.mark.parametrize(
    ("method", "judge", "judged"),
    [(FakeMethod, Asking, [None, 12]), (AskingAtTheEnd, FakeJudge, [None])],
)
def test_a_request_after_the_last_step_is_not_lost(tmp_path, monkeypatch, method, judge, judged):
    first, second, later = judge(), FakeJudge(), FakeMethod()
    assert end(tmp_path, monkeypatch, make_parts(method(), first)) == 128 + signal.SIGINT
    assert status(tmp_path) == "stopped" and first.steps == judged
    assert end(tmp_path, monkeypatch, make_parts(later, second)) == 0
    assert later.seen == [] and second.steps == [12][len(judged) - 1 :]
    assert status(tmp_path) == "finished"
