"""Gains of several runs: means over runs, and what control runs take off."""

import json

import pytest

from asg_jax.errors import UserError
from asg_jax.train.commands import report
from asg_jax.train.evolve.pool import lines, pool, read_runs
from tests.train.evolve.fake import fake_scores


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs that gain much, one that gains a little."""
    place = tmp_path_factory.mktemp("runs")
    for name, share in (("a", 0.8), ("b", 0.9), ("random", 0.55)):
        (place / name).mkdir()
        fake_scores(0.5, 900, 600).save(place / name / "before.json")
        fake_scores(share, 900, 600).save(place / name / "after.json")
    return place


def test_gains_are_means_over_runs(folders):
    found = pool(read_runs([folders / "a", folders / "b"]), {})["generation"]
    gains = list(found["runs"].values())
    assert found["gain"]["value"] == pytest.approx(sum(gains) / 2, abs=1e-3)
    low, high = found["gain"]["ci95"]
    assert low < found["gain"]["value"] < high and high - low < 10
    assert "control" not in found and found["by_kind"].keys() >= {"single", "position"}


def test_controls_are_subtracted(folders):
    runs, controls = read_runs([folders / "a", folders / "b"]), read_runs([folders / "random"])
    found = pool(runs, controls)["understanding"]
    left = found["gain"]["value"] - found["control"]["value"]
    assert found["difference"]["value"] == pytest.approx(left, abs=1e-3)
    assert found["control"]["value"] > 0
    assert "gain - control" in next(lines(pool(runs, controls)))


def test_the_command_writes_the_numbers(folders, tmp_path, capsys):
    out = tmp_path / "found.json"
    names = [str(folders / name) for name in ("a", "b", "random")]
    report.main(["--out", str(out), *names[:2], "--control", names[2]])
    assert json.loads(out.read_text())["sampled"]["runs"].keys() == set(names)
    assert "questions, greedy" in capsys.readouterr().out


def test_a_folder_without_scores_is_named(tmp_path):
    with pytest.raises(UserError, match="before.json holds no scores"):
        report.main([str(tmp_path)])
    with pytest.raises(UserError, match="no run folder is named"):
        report.main(["--control", str(tmp_path)])
