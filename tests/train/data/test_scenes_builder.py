"""The TFDS builder: made without TensorFlow, read back exactly, no label where training reads."""

import dataclasses
import os
import subprocess
import sys
from itertools import islice
from typing import Any

import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.train.data.loading import Example, batches
from asg_jax.train.data.scenes import HELD_OUT, example
from asg_jax.train.data.scenes_builder import (
    IMAGES,
    LABELLED,
    STREAMS,
    Scenes,
    SceneSource,
    prepare,
    read,
    scene_of,
    seeded,
)

IMAGES_FEW = dataclasses.replace(IMAGES, name="few", splits=(("train", 60),))
LABELLED_FEW = dataclasses.replace(
    LABELLED, name="few_labelled", splits=(("pretrain", 40), ("evaluate", 20), ("held_out", 20))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def images(folder):
    return prepare(IMAGES_FEW, folder)


def test_the_training_view_holds_images_only(images) -> None:
    assert list(images.info.features) == ["image"]
    source = read(images, "train")
    assert len(source) == 60 and list(source[0]) == ["image"]
    for n in (0, 17, 59):
        assert (source[n]["image"] == example(0, n)[1]).all()
    assert [field.name for field in dataclasses.fields(Example)] == ["id", "picture"]


@pytest.mark.parametrize("split", ["pretrain", "evaluate", "held_out"])
def test_labelled_records_give_back_their_scenes(folder, split: str) -> None:
    records = read(prepare(LABELLED_FEW, folder), split)
    for n in range(len(records)):
        scene, pixels = example(0, n, STREAMS[split], split == "held_out")
        assert scene_of(records[n]) == scene and (records[n]["image"] == pixels).all()
        unseen = {(item.shape, item.color) for item in scene.items} & set(HELD_OUT)
        assert bool(unseen) == (split == "held_out")


def test_scenes_are_loaded_in_batches_with_a_position(images) -> None:
    loader = iter(batches(SceneSource(images), batch=8, seed=1))
    list(islice(loader, 10))
    state, expected = loader.get_state(), next(loader)
    again = iter(batches(SceneSource(images), batch=8, seed=1))
    again.set_state(state)
    restored = next(again)
    assert [e.id for e in restored] == [e.id for e in expected]
    for one in restored:
        assert (np.asarray(one.picture) == example(0, one.id)[1]).all()


def test_another_seed_has_another_name_and_other_scenes(folder, images) -> None:
    other = prepare(seeded(IMAGES_FEW, 7), folder)
    prints = [SceneSource(builder).fingerprint for builder in (images, other)]
    assert prints == ["scenes/few/1.0.0, seed 0", "scenes/few_seed7/1.0.0, seed 7"]
    assert other.data_dir != images.data_dir
    record = read(other, "train")[0]["image"]
    assert (record == example(7, 0)[1]).all()


def test_no_tensorflow_and_the_same_files_from_another_process(images, tmp_path) -> None:
    program = f"""
import dataclasses, sys
from asg_jax.train.data.scenes_builder import IMAGES, prepare
prepare(dataclasses.replace(IMAGES, name="few", splits=(("train", 60),)), {str(tmp_path)!r})
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (there,) = tmp_path.rglob("*.array_record*")
    here = images.data_path / there.name
    assert there.read_bytes() == here.read_bytes()


def test_two_processes_may_prepare_at_once(images, tmp_path, monkeypatch) -> None:
    """The slower one finds the place taken, and takes what the other has made."""
    slow: Any = Scenes.download_and_prepare  # TFDS wraps it so that its type is lost

    def overtaken(builder):
        monkeypatch.undo()
        prepare(IMAGES_FEW, tmp_path)
        slow(builder)
        raise OSError("Directory not empty")

    monkeypatch.setattr(Scenes, "download_and_prepare", overtaken)
    assert len(read(prepare(IMAGES_FEW, tmp_path), "train")) == 60


def test_what_fails_twice_is_told(tmp_path, monkeypatch) -> None:
    def full(builder):
        raise OSError("No space left on device")

    monkeypatch.setattr(Scenes, "download_and_prepare", full)
    with pytest.raises(UserError, match="cannot be made or read .No space left.*set HOME"):
        prepare(IMAGES_FEW, tmp_path)


def test_what_a_kill_left_unfinished_goes_with_the_next_start(images, folder) -> None:
    versions = images.data_path.parent
    old, new = versions / "incomplete.AAAAAA_1.0.0", versions / "incomplete.BBBBBB_1.0.0"
    for part in (old, new):
        part.mkdir()
        (part / "records").write_bytes(b"half")
    os.utime(old, (1, 1))
    prepare(IMAGES_FEW, folder)
    assert not old.exists() and new.exists()  # somebody may be at work there
    assert len(read(images, "train")) == 60
