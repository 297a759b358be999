"""How many trajectories a hierarchical search keeps at which step, and what it costs.

dMLLM-TTS (arXiv 2512.19433): all N trajectories run for `explore` steps without being scored; then
each step keeps the best K, which branch, with a width that shrinks by `decay`; from step `refine`
on, K of them run alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def widths(n: int, k: int, decay: float, explore: int, refine: int) -> list[int]:
    """Trajectories at each step after `explore`, up to `refine`: max(floor(n decay^-i), k)."""
    return [
        max(math.floor(n * float(decay) ** -step), k) for step in range(1, refine - explore + 1)
    ]


def branches(sizes: Sequence[int], k: int) -> list[int]:
    """Into how many each of K survivors branches for the next step's width."""
    return [size // k for size in sizes[1:]]


def calls(n: int, k: int, decay: float, steps: int, explore: int, refine: int) -> int:
    """Calls of the denoiser in all, against n * steps without pruning."""
    return n * explore + sum(widths(n, k, decay, explore, refine)) + k * (steps - refine)
