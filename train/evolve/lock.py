"""One process at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from asg_jax.errors import UserError
from asg_jax.train.evolve.files import Folder, is_local

LOCK = ".lock"


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Keeps a folder for this process; the lock of a process that died falls by itself.

    Buckets, and the few file systems that know no locks, are not kept.

    Raises:
      UserError: another process has it.
    """
    if not is_local(folder):
        yield
        return
    with open(folder / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"another process ({file.read().strip()}) works in {folder}; wait for its end, or"
                " name another --workdir."
            ) from error
        except OSError:  # no locks here
            pass
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
