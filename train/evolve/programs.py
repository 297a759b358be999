"""Compiled programs on disk, for the next start."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import jax
from jax._src import compilation_cache  # how entries are packed has no public name

from asg_jax.train.evolve.files import is_local

PROGRAMS = Path("~/.cache/asg_jax/programs")
CHECKED = ".checked"  # all entries that are older than this file are whole
SLACK = 60.0  # seconds that clocks of a shared disk may differ by


def keep_programs() -> None:
    """Finds programs that were compiled before, and keeps those that come, where JAX is told to.

    Without such a place, they are kept in the user's own cache.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(PROGRAMS.expanduser()))
    folder = jax.config.values["jax_compilation_cache_dir"]
    if folder and is_local(folder):
        with suppress(OSError):  # a run goes on without
            mend(Path(folder))


def mend(folder: Path) -> None:
    """Removes the entries that a kill has torn: JAX warns of them and never writes them again.

    Entries are looked at once. One that another process is just writing is at worst compiled again.
    """
    mark, now = folder / CHECKED, time.time()
    since = mark.stat().st_mtime - SLACK if mark.exists() else 0.0
    for path in folder.glob("*-cache"):
        if path.stat().st_mtime >= since and not _whole(path.read_bytes()):
            path.unlink()
    mark.touch()
    os.utime(mark, (now, now))


def _whole(data: bytes) -> bool:
    try:
        return bool(compilation_cache.decompress_executable(data))
    except Exception:  # zlib's, or one of two zstandards'
        return False
