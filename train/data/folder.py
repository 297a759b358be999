"""Any directory of pictures as unlabeled training data."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import SupportsIndex

from asg_jax.errors import UserError
from asg_jax.models.pictures import LONGEST, Unreachable, Unreadable, opened, read_picture
from asg_jax.models.places import place
from asg_jax.train.data.loading import Example

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # no other decoder of Pillow ever sees a file
CHECK_SIDE = 64  # pixels: JPEG decodes faster to a small picture, and its damage shows as well
THREADS = 4  # pictures that are checked at a time
CHECKED = Path("~/.cache/asg_jax/folders")  # what checks found, for the next start

LOG = logging.getLogger(__name__)


def find_files(folder: Path) -> tuple[dict[Path, os.stat_result], dict[Path, str]]:
    """All files below a folder, in an order that does not depend on the file system.

    Links are followed after everything else, each real folder once: circles end, and what lies
    below the folder itself keeps its own path.

    Returns:
      The files, and why folders and files that cannot be reached are not among them.
    """
    files: dict[Path, os.stat_result] = {}
    faults: dict[Path, str] = {}
    seen: set[tuple[int, int]] = set()
    folders, links = [folder], []
    while folders or links:
        top = folders.pop() if folders else links.pop(0)
        try:
            about = top.stat()
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            names = sorted(os.listdir(top))
        except OSError as error:
            faults[top] = f"a folder that cannot be entered: {error.strerror}"
            continue
        for path in (top / name for name in names):
            try:
                if path.is_dir():
                    (links if path.is_symlink() else folders).append(path)
                else:
                    files[path] = path.stat()
            except OSError as error:
                faults[path] = "not a file" if path.is_symlink() else str(error.strerror)
    inside = lambda path: path.relative_to(folder).as_posix()
    return {path: files[path] for path in sorted(files, key=inside)}, faults


class FolderSource:
    """The readable pictures below a folder; implements `asg_jax.train.data.loading.Source`.

    The folder is listed once. Every file is tried, a few at a time, before the first start that
    meets it, so that the number and the order of the pictures are known; later starts remember
    what was found. A file that cannot be used is named in the log, once, and passed over, also one
    that goes bad later.

    Attributes:
      folder: searched with all folders in it and those that they link to.
      side: pictures are shrunk to this many pixels along their longer side.
      paths: the pictures' files.
      skipped: reasons by path, of the files and folders that are passed over.
      fingerprint: number of the pictures, and a hash of their names and sizes.
    """

    def __init__(self, folder: str | Path, side: int = LONGEST):
        self.folder, self.side = place(folder), side
        if not self.folder.is_dir():
            raise UserError(f"{folder} is no folder; name one that holds pictures.")
        files, faults = find_files(self.folder)
        faults |= {path: fault for path in files if (fault := _misnamed(path, files[path]))}
        named = {path: about for path, about in files.items() if path not in faults}
        self.skipped: dict[Path, str] = {}
        self._lock = Lock()
        for path, reason in sorted((faults | self._check(named)).items()):
            self._skip(path, reason)
        self._skipped_first = len(self.skipped)
        self.paths = [path for path in named if path not in self.skipped]
        if not self.paths:
            raise UserError(
                f"{folder} holds no readable picture ({len(self.skipped)} files were skipped); put"
                " jpg, png, webp or bmp files there."
            )
        sizes = {path: named[path].st_size for path in self.paths}
        self.fingerprint = f"{len(self)} pictures, {self._digest(sizes.items())}"
        LOG.info("%s: %d pictures, %d files skipped", folder, len(self.paths), len(self.skipped))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: SupportsIndex) -> Example | None:
        """A picture, or None for one that cannot be read any more.

        Raises:
          UserError: none of them can.
        """
        number = index.__index__()
        path = self.paths[number]
        try:
            if path not in self.skipped:
                return Example(number, read_picture(path, self.side, FORMATS))
        except (Unreadable, FileNotFoundError) as error:
            self._skip(path, _reason(error))
        if len(self.skipped) == self._skipped_first + len(self) or not self.folder.is_dir():
            raise UserError(
                f"{self.folder}: none of {len(self)} pictures can be read any more; bring the"
                " folder back, then the same command goes on."
            )
        return None

    def __repr__(self) -> str:
        return f"FolderSource({str(self.folder)!r}, {len(self)} pictures)"

    def _check(self, files: dict[Path, os.stat_result]) -> dict[Path, str]:
        """What is wrong with which files; remembered as long as the files stay as they are."""
        state = self._digest((p, (about.st_size, about.st_mtime_ns)) for p, about in files.items())
        memory = CHECKED.expanduser() / f"{state}.json"
        with suppress(OSError, ValueError):
            told, check = memory.read_bytes().splitlines()
            if check.decode() == hashlib.sha256(told).hexdigest():
                return {self.folder / name: reason for name, reason in json.loads(told).items()}
        with ThreadPoolExecutor(THREADS) as pool:
            faults = zip(files, pool.map(_fault, files), strict=True)
            found = {path: fault for path, fault in faults if fault is not None}
        reasons = {path: _reason(fault) for path, fault in found.items()}
        if any(isinstance(fault, Unreachable | OSError) for fault in found.values()):
            return reasons  # they may be reached the next time
        with suppress(OSError):  # it is only faster with it
            memory.parent.mkdir(parents=True, exist_ok=True)
            named = {str(path.relative_to(self.folder)): reasons[path] for path in reasons}
            told = json.dumps(named).encode()
            part = memory.with_suffix(f".{os.getpid()}")
            part.write_bytes(told + f"\n{hashlib.sha256(told).hexdigest()}\n".encode())
            part.replace(memory)
        return reasons

    def _digest(self, facts: Iterable[tuple[Path, object]]) -> str:
        """A hash of facts about files, whichever way leads to their folder."""
        lines = (f"{path.relative_to(self.folder).as_posix()}\t{fact}\n" for path, fact in facts)
        text = "".join(lines).encode(errors="surrogateescape")
        return hashlib.sha256(text).hexdigest()[:16]

    def _skip(self, path: Path, reason: str) -> None:
        with self._lock:  # pictures are read by several threads
            if path not in self.skipped:
                self.skipped[path] = reason
                LOG.warning("skipped %s: %s", path.relative_to(self.folder).as_posix(), reason)


def _misnamed(path: Path, about: os.stat_result) -> str | None:
    if not stat.S_ISREG(about.st_mode):  # a pipe would block
        return "not a file"
    named = path.suffix.lower() in SUFFIXES
    return None if named else f"not named as one of {', '.join(SUFFIXES)}"


def _fault(path: Path) -> Exception | None:
    """Why a file cannot be used, found without holding all of its pixels where that is possible."""
    try:
        with opened(path, FORMATS) as picture:
            if picture.format != "PNG":  # whose checksums were compared, undecoded
                picture.draft("RGB", (CHECK_SIDE, CHECK_SIDE))
                picture.load()
    except (Unreadable, FileNotFoundError) as error:
        return error
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
