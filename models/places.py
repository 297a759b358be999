"""Where programs read and write: names of users to paths, outputs that are whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asg_jax.errors import UserError


def place(name: str | Path) -> Path:
    """The path of a name, with `~` as in a shell.

    Raises:
      UserError: it begins with the home of nobody.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UserError(f"{name} begins with a home that is not known; write it out.") from error


def check_new(path: Path) -> None:
    """Makes sure that nothing is there that writing would destroy; an empty folder is nothing.

    Raises:
      UserError: something is there.
    """
    try:
        taken = any(path.iterdir()) if path.is_dir() else path.is_symlink() or path.exists()
    except OSError as error:
        reason = f"{path} cannot be reached ({error.strerror}); choose another place."
        raise UserError(reason) from error
    if taken:
        raise UserError(f"{path} exists already; remove it or choose another place.")


def check_writable(folder: Path) -> None:
    """Makes sure that a folder is there or can be made, and takes files; leaves nothing behind.

    Raises:
      UserError: it does not.
    """
    made: list[Path] = []
    try:
        for part in reversed([folder, *folder.parents]):
            if not part.is_dir():
                part.mkdir()
                made.append(part)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} takes no files ({error.strerror}); choose another folder."
        ) from error
    finally:
        for part in reversed(made):
            part.rmdir()


def new_file(name: str | Path) -> Path:
    """The path of a file that is to be written at the end of some work, checked before it.

    Raises:
      UserError: it is there already, or its folder is not, or takes no such file.
    """
    path = place(name)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} to; make it first.")
    check_new(path)
    check_writable(path)  # as a folder of that name: the name may be too long
    return path


def write_file(path: Path, data: bytes) -> None:
    """Writes a file that is there whole or not at all, also after a kill."""
    part = path.with_name(path.name + ".tmp")
    part.write_bytes(data)
    part.replace(path)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to be filled that gets its name when it is whole.

    It stands beside its place until then; whatever ends the work before takes it away, and what a
    kill leaves goes with the next try.

    Raises:
      UserError: something is in its place already, or it takes no files.
    """
    check_new(folder)
    check_writable(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        if not _runs(left.suffixes[-2][1:]):
            shutil.rmtree(left, ignore_errors=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        check_new(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:
        pass  # somebody else's
    return True
