"""Files of a run, on a disk and in a bucket."""

import numpy as np
import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from asg_jax.engine.method import Kept, Report
from asg_jax.errors import UserError
from asg_jax.train.evolve import run
from asg_jax.train.evolve.config import FILE
from asg_jax.train.evolve.files import fetched, read_json, stored, write_json
from asg_jax.train.evolve.judging import recall
from asg_jax.train.evolve.logs import Logs, read_metrics
from asg_jax.train.evolve.replay import Replay
from tests.train.evolve.fake import CONFIG, FakeJudge


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path, monkeypatch):
    """An empty folder; that of the bucket exists in memory alone."""
    if request.param == "disk":
        return epath.Path(tmp_path)
    store = MemoryFileSystem()
    monkeypatch.setattr(backend.fsspec_backend, "fs", lambda path: store)
    place = epath.Path(f"gs://{tmp_path.name}/run")
    place.mkdir(parents=True)
    return place


def test_json_comes_back_whole_or_is_named(folder):
    write_json(folder / "a.json", {"x": float("nan"), "y": np.float32(2)})
    assert read_json(folder / "a.json", "y") == {"x": None, "y": 2}
    assert [path.name for path in folder.iterdir()] == ["a.json"]
    with pytest.raises(UserError, match=r"a.json is damaged \(without z\); remove it, and the com"):
        read_json(folder / "a.json", "y", "z")


def test_libraries_that_know_no_buckets_read_and_write_there(folder):
    with stored(folder / "tree") as place:
        (place / "role").mkdir(parents=True)
        (place / "role" / "weights").write_bytes(b"12")
    with fetched(folder / "tree") as place:
        assert (place / "role" / "weights").read_bytes() == b"12"


def test_the_metrics_of_later_steps_are_forgotten(folder):
    report = Report("understanding", {"reward/solver": 0.5})
    for steps, start in (((1, 2, 3), 0), ((3, 4), 2)):
        logs = Logs(folder, 4)
        logs.start(start)
        for step in steps:
            logs.step(step, report, 1.0)
        logs.flush()
        logs.close()
    assert [line["step"] for line in read_metrics(folder)] == [1, 2, 3, 4]


def test_damaged_metrics_are_passed_over(folder):
    lines = [b'{"step": 1}', b'{"st\xff}', b"[]", b'{"step": 2}', b'{"step": 3, "lo']
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert [line["step"] for line in read_metrics(folder)] == [1, 2]


def test_replayed_pictures_are_kept(folder):
    replay, again = (Replay(folder, 2, 1) for _ in range(2))
    drawn = [Kept(np.full((4, 6, 3), n, np.uint8), n) for n in range(3)]
    replay.add(1, drawn)
    again.restore(replay.state())
    assert [np.asarray(picture)[0, 0, 0] for picture in again.held(3)] == [1, 2]


def test_a_judgement_is_made_once(folder):
    judge = FakeJudge()
    make = lambda: judge(None, CONFIG.eval)
    first, second = recall(folder, "before", make), recall(folder, "before", make)
    assert judge.steps == [None]
    assert second.scores.headline == first.scores.headline
    np.testing.assert_array_equal(second.pictures, first.pictures)
    (folder / "before.npz").write_bytes((folder / "before.npz").read_bytes()[:99])
    with pytest.raises(UserError, match=r"before.json is damaged \(or before.npz: .* remove it"):
        recall(folder, "before", make)
    (folder / "before.json").unlink()
    recall(folder, "before", make)
    (folder / "before.json").write_text("[]")
    with pytest.raises(UserError, match=r"before.json is damaged .*not what was written"):
        recall(folder, "before", make)


def test_a_folder_is_claimed(folder):
    with run.claimed(folder / "new", CONFIG):
        assert read_json(folder / "new" / FILE)["name"] == "fake"
        assert not run.is_finished(folder / "other", CONFIG)
