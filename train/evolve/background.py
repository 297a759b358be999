"""Work beside the main thread that no exit waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_background(work: Callable[[], T]) -> Future[T]:
    """Starts work in a thread of its own.

    Unlike an executor's, the thread does not hold up the end of the program: a picture on a disk
    that is gone may keep it for ever.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # surfaces where the result is asked for
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
