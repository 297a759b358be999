"""Any directory of pictures as unlabeled training data."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import SupportsIndex

from PIL import Image, UnidentifiedImageError

from asg_jax.errors import UserError
from asg_jax.models.pictures import to_rgb
from asg_jax.train.data.loading import Example

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # no other decoder of Pillow ever sees a file
MAX_PIXELS = 64_000_000  # a picture of more is a mistake or a decompression bomb
CHECK_SIDE = 64  # pixels: JPEG decodes faster to a small picture, and its damage shows as well

LOG = logging.getLogger(__name__)


class Unreadable(Exception):
    """A file is no picture to learn from; the message is the reason."""


def read_picture(path: Path, check_only: bool = False) -> Image.Image:
    """The decoded picture, RGB.

    Args:
      path: of the file.
      check_only: the picture may be smaller than the file's.

    Raises:
      Unreadable: whatever is wrong with the file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise Unreadable(f"not named as one of {', '.join(SUFFIXES)}")
    if not path.is_file():  # a broken link, or a pipe that would block
        raise Unreadable("not a file")
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Unreadable(f"{picture.width} x {picture.height} pixels are too many")
            if check_only:
                picture.draft("RGB", (CHECK_SIDE, CHECK_SIDE))
            return to_rgb(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("too many pixels") from error
    except UnidentifiedImageError as error:
        raise Unreadable("empty" if path.stat().st_size == 0 else "no such picture") from error
    except Unreadable:
        raise
    except OSError as error:
        # The text of a system's error names the file again; a decoder's says what is damaged.
        raise Unreadable(error.strerror or str(error)) from error
    except Exception as error:  # on damaged bytes decoders raise nearly anything
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def find_files(folder: Path) -> list[Path]:
    """All files below a folder, in an order that does not depend on the file system."""
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


class FolderSource:
    """The readable pictures below a folder; implements `asg_jax.train.data.loading.Source`.

    Every file is decoded once at the start, so that the number and the order of the pictures are
    known. A file that cannot be used is named in the log, once, and passed over, also one that
    goes bad later.

    Attributes:
      folder: searched with all folders in it.
      paths: of the pictures.
      skipped: reasons by path, of the files that are passed over.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"{folder} is no folder; name one that holds pictures.")
        self.skipped: dict[Path, str] = {}
        self._lock = Lock()
        self.paths = self._check(find_files(self.folder))
        if not self.paths:
            raise UserError(
                f"{folder} holds no readable picture ({len(self.skipped)} files were skipped); put"
                " jpg, png, webp or bmp files there."
            )
        LOG.info("%s: %d pictures, %d files skipped", folder, len(self.paths), len(self.skipped))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: SupportsIndex) -> Example | None:
        number = index.__index__()
        try:
            return Example(number, read_picture(self.paths[number]))
        except Unreadable as error:
            self._skip(self.paths[number], str(error))
            return None

    def __repr__(self) -> str:
        return f"FolderSource({str(self.folder)!r}, {len(self)} pictures)"

    def _check(self, paths: Iterable[Path]) -> list[Path]:
        """The paths that can be read; the others go into the log, in their order."""

        def fault(path: Path) -> str | None:
            try:
                read_picture(path, check_only=True)
            except Unreadable as error:
                return str(error)
            return None

        good = []
        with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
            # The limit here is stricter than the one that Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            for path, reason in zip(paths := list(paths), pool.map(fault, paths), strict=True):
                if reason is None:
                    good.append(path)
                else:
                    self._skip(path, reason)
        return good

    def _skip(self, path: Path, reason: str) -> None:
        with self._lock:  # pictures are read by several threads
            if path not in self.skipped:
                self.skipped[path] = reason
                LOG.warning("skipped %s: %s", path.relative_to(self.folder).as_posix(), reason)
