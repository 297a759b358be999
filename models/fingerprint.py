"""Tells whether a model is the one that it was, without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from asg_jax.models.registry import RANDOM, model_folder

BLOCK = 4096  # bytes
BLOCKS = 64  # of a file that are looked at, spread evenly; training changes nearly all


def fingerprint(name: str) -> str:
    """A short text that differs where the files of a model do: their names, sizes, parts of them.

    Args:
      name: the model, as `open_model` takes it.

    Raises:
      UserError: nothing of that name is there.
    """
    if name.startswith(RANDOM):
        return name
    folder = model_folder(name)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        found.update(f"{path.relative_to(folder).as_posix()}\t{size}\n".encode(errors="replace"))
        found.update(_sample(path, size))
    return f"{len(files)} files, {found.hexdigest()[:16]}"


def _sample(path: Path, size: int) -> bytes:
    """Evenly spread blocks of a file, its first and last among them; a short one whole."""
    last = max(0, size - BLOCK)
    places = range(0, last + 1, BLOCK) if size <= BLOCK * BLOCKS else _spread(last)
    with path.open("rb") as file:
        blocks = []
        for place in sorted({*places, last}):
            file.seek(place)
            blocks.append(file.read(BLOCK))
    return b"".join(blocks)


def _spread(last: int) -> list[int]:
    return [last * n // (BLOCKS - 1) for n in range(BLOCKS)]
