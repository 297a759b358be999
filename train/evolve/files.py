"""Files of runs, on disks and in buckets; a killed process leaves the old or the new one whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.models.places import place

Folder = Path | epath.Path


def is_local(path: Folder | str) -> bool:
    """Whether a path lies in the file system of this machine, which shared disks belong to."""
    return "://" not in str(path)


def folder_of(name: str) -> Folder:
    """The folder of that name, in a bucket or, with `~` as in a shell, on this machine.

    Raises:
      UserError: it begins with the home of nobody.
    """
    return place(name) if is_local(name) else epath.Path(name)


def write_bytes(path: Folder, data: bytes) -> None:
    """Writes a file in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def write_json(path: Folder, value: Any) -> None:
    """Writes JSON in one step."""
    write_bytes(path, (json.dumps(sane(value), indent=2) + "\n").encode())


def write_tables(path: Folder, found: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Writes findings as PATH.json, and as a Markdown table of these lines as PATH.md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path.with_suffix(".json"), found)
    write_bytes(path.with_suffix(".md"), ("\n".join(lines) + "\n").encode())


def write_picture(path: Folder, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes a PNG file in one step."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    write_bytes(path, file.getvalue())


@contextmanager
def fetched(folder: Folder) -> Iterator[Path]:
    """A folder, for libraries that read the disks of this machine alone."""
    if is_local(folder):
        yield Path(folder)
        return
    with TemporaryDirectory() as place:
        _copy(folder, Path(place))
        yield Path(place)


@contextmanager
def stored(folder: Folder) -> Iterator[Path]:
    """A folder, for libraries that write to the disks of this machine alone."""
    if is_local(folder):
        yield Path(folder)
        return
    with TemporaryDirectory() as place:
        yield Path(place)
        _copy(Path(place), folder)


def _copy(source: Folder, target: Folder) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            (target / path.name).write_bytes(path.read_bytes())


REMAKE = "remove it, and the command of the run makes it again"


def damaged(path: Folder, reason: Any, remedy: str = REMAKE) -> UserError:
    """The error for a file of a run that cannot be read, with what mends it."""
    return UserError(f"{path} is damaged ({reason}); {remedy}.")


def read_json(path: Folder, *needed: str) -> dict[str, Any]:
    """An object that `write_json` wrote.

    Args:
      path: the file.
      needed: names that it must have.

    Raises:
      UserError: it is damaged.
    """
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # no JSON, or no text at all
        raise damaged(path, error) from error
    if not isinstance(found, dict):
        raise damaged(path, "not an object")
    if missing := [name for name in needed if name not in found]:
        raise damaged(path, f"without {', '.join(missing)}")
    return found


def sane(value: Any) -> Any:
    """The same without numbers that JSON lacks: they become null."""
    if isinstance(value, Mapping):
        return {str(key): sane(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [sane(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
