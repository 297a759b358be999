"""Counting what XLA compiles."""

from __future__ import annotations

from typing import Any

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"  # also where the cache had the program
CACHED = "/jax/compilation_cache/cache_hits"


class Compilations:
    """A context that counts the programs compiled inside it.

    Attributes:
      count: programs, those read from the persistent compilation cache included.
      cached: how many of them were read from it.
      seconds: time that the backend took for all of them.
    """

    def __init__(self) -> None:
        self.count = 0
        self.cached = 0
        self.seconds = 0.0

    def __enter__(self) -> Compilations:
        jax.monitoring.register_event_duration_secs_listener(self._add)
        jax.monitoring.register_event_listener(self._hit)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._add)
        jax.monitoring.unregister_event_listener(self._hit)

    def _add(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == COMPILED:
            self.count += 1
            self.seconds += duration_secs

    def _hit(self, event: str, **_: Any) -> None:
        self.cached += event == CACHED
