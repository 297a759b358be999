"""Outputs: nothing is written over, whole or not there, checked before the work."""

import pytest

from asg_jax.errors import UserError
from asg_jax.models.places import check_new, check_writable, new_file, new_folder, place, write_file


def test_a_folder_appears_when_it_is_whole(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for out in (tmp_path / "deep" / "new", tmp_path / "link"):
        with new_folder(out) as part:
            (part / "a").write_text("a")
            assert not out.exists() or not any(out.iterdir())
        assert (out / "a").read_text() == "a"
    assert not list(tmp_path.rglob("*.part"))


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), new_folder(tmp_path / "new") as part:
        (part / "a").write_text("a")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_what_comes_in_between_stays(tmp_path):
    out = tmp_path / "new"
    with pytest.raises(UserError, match="exists already"), new_folder(out):
        out.mkdir()
        (out / "other").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "other"]


def test_the_rest_of_a_kill_goes_and_that_of_a_running_one_stays(tmp_path):
    for process in (1, 2**22 + 1):  # the second is above any number of a process
        (tmp_path / f".new.{process}.part").mkdir()
    with new_folder(tmp_path / "new"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.1.part", "new"]


def test_places_are_checked_and_left_as_they_are(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    check_writable(tmp_path / "deep" / "er")
    check_new(tmp_path / "deep")
    for name in ("file", "file/x", "x" * 300):
        with pytest.raises(UserError, match="takes no files"):
            check_writable(tmp_path / name)
    for name in ("file", "gone", "."):
        with pytest.raises(UserError, match="exists already"):
            check_new(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "gone"]


def test_new_files(tmp_path):
    path = new_file(tmp_path / "a.json")
    assert not path.exists()
    write_file(path, b"1")
    assert path.read_bytes() == b"1" and len(list(tmp_path.iterdir())) == 1
    for name in ("a.json", "no/a.json", "x" * 300, "a.json/b"):
        with pytest.raises(UserError):
            new_file(tmp_path / name)


def test_homes(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/a") == tmp_path / "a"
    with pytest.raises(UserError, match="begins with a home"):
        place("~nobody-of-that-name/a")
