"""Folders of pictures: bad files are named once and passed over, good ones seen once per epoch."""

import errno
import json
import logging
import os
import shutil
import struct
import time
import zlib
from collections import Counter
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from asg_jax.errors import UserError
from asg_jax.models import pictures as pictures_module
from asg_jax.train.data import folder as folder_module
from asg_jax.train.data.folder import FolderSource
from asg_jax.train.data.loading import Example, batches

GOOD_NAMES = ("{}.jpg", "{}.PNG", "deep/er/{}.webp", "{}.bmp", "deep/{}.JpEg")
GOOD, BAD_EACH = 200, 5


def encoded(form: str, seed: int = 0, size: int = 48) -> bytes:
    """A small picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes) -> bytes:
    """A grey PNG file with any claim about its size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + end


def bmp(width: int, height: int) -> bytes:
    """The beginning of a BMP file."""
    return encoded("bmp")[:18] + struct.pack("<ii", width, height) + encoded("bmp")[26:]


def flipped(data: bytes) -> bytes:
    """Damage in the middle of the compressed data of a PNG file."""
    middle = len(data) // 2
    return (
        data[:middle]
        + bytes(255 - value for value in data[middle : middle + 40])
        + data[middle + 40 :]
    )


BAD = {
    "empty.jpg": b"",
    "text.png": b"this is no picture",
    "cut.jpg": encoded("jpeg")[:900],
    "cut.png": encoded("png")[:3000],
    "cut.webp": encoded("webp")[:700],
    "cut.bmp": encoded("bmp")[:3000],
    "flipped.png": flipped(encoded("png")),
    "bomb.png": png(30_000, 30_000, zlib.compress(bytes(1000))),
    "large.png": png(9_000, 9_000, zlib.compress(bytes(1000))),
    "notes.txt": b"a note",
}


@pytest.fixture(autouse=True)
def memory(tmp_path_factory, monkeypatch) -> None:
    """What checks find is remembered here, not in the home of whoever runs the tests."""
    monkeypatch.setattr(folder_module, "CHECKED", tmp_path_factory.mktemp("checked"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """200 good pictures of five kinds and 50 bad files of ten."""
    forms = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".bmp": "bmp"}
    for n in range(GOOD):
        path = tmp_path / GOOD_NAMES[n % len(GOOD_NAMES)].format(f"good{n:03}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(forms[path.suffix.lower()], n, 16))
    for n in range(BAD_EACH):
        for name, data in BAD.items():
            (tmp_path / ("deep" if n % 2 else ".") / f"bad{n}_{name}").write_bytes(data)
    return tmp_path


def ids(several: list[list[Example]]) -> list[int]:
    return [example.id for batch in several for example in batch]


def test_good_pictures_are_seen_once_per_epoch_and_bad_files_named_once(pictures, caplog) -> None:
    caplog.set_level(logging.INFO)
    source = FolderSource(pictures)
    assert len(source) == GOOD and len(source.skipped) == len(BAD) * BAD_EACH
    seen = ids(list(batches(source, batch=16, seed=3, epochs=2)))
    assert Counter(seen) == dict.fromkeys(range(GOOD), 2)
    assert set(seen[:GOOD]) == set(range(GOOD)) and seen[:GOOD] != seen[GOOD:]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for path in source.skipped:
        assert sum(path.name in message for message in warnings) == 1, path
        assert caplog.text.count(path.name) == 1
    assert len(warnings) == len(source.skipped) and "200 pictures, 50 files skipped" in caplog.text


def test_the_position_is_restored_in_the_middle(pictures) -> None:
    loader = lambda: iter(batches(FolderSource(pictures), batch=16, seed=3, epochs=2))
    first = loader()
    before = list(islice(first, 9))
    state = json.loads(json.dumps(first.get_state()))
    again = loader()
    again.set_state(state)
    after = list(again)
    assert ids(after) == ids(list(first))
    assert Counter(ids(before + after)) == dict.fromkeys(range(GOOD), 2)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_one(pictures, processes: int) -> None:
    source = FolderSource(pictures)
    one = ids(list(islice(batches(source, batch=12, seed=5), 40)))
    shards = [
        list(
            islice(
                batches(source, batch=12 // processes, seed=5, process=p, processes=processes), 40
            )
        )
        for p in range(processes)
    ]
    for n in range(40):
        union = [example.id for shard in shards for example in shard[n]]
        assert sorted(union) == sorted(one[12 * n : 12 * (n + 1)])


def test_a_file_that_goes_bad_later_is_passed_over_and_named_once(tmp_path, caplog) -> None:
    for n in range(6):
        (tmp_path / f"{n}.png").write_bytes(encoded("png", n))
    source = FolderSource(tmp_path)
    (tmp_path / "2.png").unlink()
    (tmp_path / "4.png").write_bytes(b"no more")
    seen = Counter(ids(list(batches(source, batch=2, seed=0, epochs=3))))
    assert seen == dict.fromkeys((0, 1, 3, 5), 3)
    assert caplog.text.count("2.png") == caplog.text.count("4.png") == 1


def test_pictures_come_as_rgb(tmp_path) -> None:
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    Image.new("RGBA", (4, 4)).save(tmp_path / "b.png")
    Image.new("1", (4, 4)).save(tmp_path / "c.bmp")
    source = FolderSource(tmp_path)
    assert [example.picture.mode for n in range(3) if (example := source[n])] == ["RGB"] * 3


def test_other_formats_are_refused_under_any_name(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("png"))
    Image.new("RGB", (4, 4)).save(tmp_path / "b.jpg", "gif")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "d.png")  # opening it would wait for ever
    assert sorted(path.name for path in FolderSource(tmp_path).skipped) == [
        "b.jpg",
        "c.jpg",
        "d.png",
    ]


def test_the_decompression_bomb_is_never_decoded(tmp_path, monkeypatch) -> None:
    (tmp_path / "bomb.png").write_bytes(BAD["bomb.png"])
    (tmp_path / "large.png").write_bytes(BAD["large.png"])
    (tmp_path / "large.bmp").write_bytes(bmp(9_000, 9_000))
    (tmp_path / "a.bmp").write_bytes(encoded("bmp"))
    decoded, load = [], ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda p: decoded.append(p.size) or load(p))
    assert len(FolderSource(tmp_path)) == 1 and decoded == [(48, 48)]


def test_pictures_are_shrunk_where_they_are_decoded(tmp_path) -> None:
    Image.new("RGB", (3000, 1000)).save(tmp_path / "a.jpg")
    Image.new("RGB", (100, 300)).save(tmp_path / "b.png")
    Image.new("RGB", (60, 40)).save(tmp_path / "c.webp")
    sizes = lambda **given: [
        example.picture.size for n in range(3) if (example := FolderSource(tmp_path, **given)[n])
    ]
    assert sizes() == [(2048, 683), (100, 300), (60, 40)]
    assert sizes(side=120) == [(120, 40), (40, 120), (60, 40)]


def test_few_pictures_wait_decoded(tmp_path) -> None:
    for n in range(50):
        (tmp_path / f"{n}.png").write_bytes(encoded("png", n))
    source = FolderSource(tmp_path)
    read: list[int] = []

    class Counted:
        fingerprint = source.fingerprint
        __len__ = lambda self: len(source)

        def __getitem__(self, index):
            read.append(index)
            return source[index]

    next(iter(batches(Counted(), batch=2, seed=0)))
    time.sleep(0.3)
    assert 2 <= len(read) <= 16


def test_a_second_start_remembers_what_was_found(pictures, monkeypatch) -> None:
    first = FolderSource(pictures)
    monkeypatch.setattr(folder_module, "_fault", None)
    second = FolderSource(pictures)
    assert second.paths == first.paths and second.skipped == first.skipped
    assert second.fingerprint == first.fingerprint
    (memory,) = folder_module.CHECKED.iterdir()
    told = memory.read_bytes()
    for damage in (b"[1", b"{}", b"", told[:-9], told.replace(b"empty", b"entry")):
        memory.write_bytes(damage)
        with pytest.raises(TypeError):  # a damaged memory is none
            FolderSource(pictures)


@pytest.mark.parametrize("fault", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_the_file_system_refused_is_tried_again(tmp_path, monkeypatch, fault) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(encoded("png"))
    real = folder_module.opened

    def refuse(path: Path, formats: tuple[str, ...]):
        if path.stem == "b":
            raise pictures_module.Unreachable(os.strerror(fault))
        return real(path, formats)

    with monkeypatch.context() as bad_day:
        bad_day.setattr(folder_module, "opened", refuse)
        assert [path.name for path in FolderSource(tmp_path).paths] == ["a.png"]
    assert [path.name for path in FolderSource(tmp_path).paths] == ["a.png", "b.png"]


def test_links_are_followed_and_circles_end(tmp_path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two / "deep"):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encoded("png"))
    (one / "all").symlink_to(two)
    (one / "again").symlink_to(two / "deep")
    (two / "back").symlink_to(one)
    (two / "deep" / "self").symlink_to(two / "deep")
    found = [path.relative_to(one).as_posix() for path in FolderSource(one).paths]
    assert found == ["a.png", "again/a.png"]
    assert len(FolderSource(two)) == 2


def test_folders_that_cannot_be_entered_are_named_and_counted(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    (tmp_path / "a.png").write_bytes(encoded("png"))
    (tmp_path / "locked").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    listed = os.listdir

    def refuse(place: Path) -> list[str]:  # the tests may run as a user whom nothing stops
        if place.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(place)

    monkeypatch.setattr(folder_module.os, "listdir", refuse)
    source = FolderSource(tmp_path)
    assert {path.name for path in source.skipped} == {"locked", "gone"}
    assert "skipped locked: a folder that cannot be entered: Permission denied" in caplog.text
    assert "1 pictures, 2 files skipped" in caplog.text


@pytest.mark.parametrize("harm", ["remove", "empty", "damage"])
@pytest.mark.parametrize("process", [0, 1])
def test_when_no_picture_can_be_read_any_more_that_is_said(tmp_path, harm, process) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.png").write_bytes(encoded("png", n))
    stream = iter(batches(FolderSource(folder), batch=2, seed=0, process=process, processes=2))
    next(stream)
    for path in list(folder.iterdir()):
        path.unlink() if harm != "damage" else path.write_bytes(b"no picture")
    if harm == "remove":
        folder.rmdir()
    with pytest.raises(UserError, match="none of 6 pictures can be read any more"):
        for _ in range(100):
            next(stream)


def test_fingerprints_tell_folders_apart(tmp_path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.png").write_bytes(encoded("png", n))
    prints = [FolderSource(folder).fingerprint]
    assert prints[0].startswith("3 pictures, ")
    (folder / "3.png").write_bytes(encoded("png", 3))
    prints.append(FolderSource(folder).fingerprint)
    (folder / "3.png").rename(folder / "4.png")
    prints.append(FolderSource(folder).fingerprint)
    (folder / "4.png").write_bytes(encoded("png", size=40))
    prints.append(FolderSource(folder).fingerprint)
    (folder / "1.png").write_bytes(b"unreadable")
    prints.append(FolderSource(folder).fingerprint)
    assert len(set(prints)) == 5
    shutil.copytree(folder, tmp_path / "b")
    assert FolderSource(tmp_path / "b").fingerprint == prints[-1]


@pytest.mark.parametrize("name", [None, "notes.txt", "empty.jpg"])
def test_a_folder_without_pictures_is_the_users_mistake(tmp_path, name: str | None) -> None:
    if name:
        (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(UserError, match="holds no readable picture"):
        FolderSource(tmp_path)


def test_a_missing_folder_and_too_many_processes_are_too(tmp_path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        FolderSource(tmp_path / "missing")
    (tmp_path / "a.png").write_bytes(encoded("png"))
    with pytest.raises(UserError, match="too few for 2 processes"):
        batches(FolderSource(tmp_path), batch=1, seed=0, processes=2)
