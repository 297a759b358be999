"""Drawn pictures that were good enough to be learned from again, as PNG files of the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image as Picture

from asg_jax.methods.base import Kept
from asg_jax.models.pictures import open_picture, to_picture
from asg_jax.train.evolve import processes
from asg_jax.train.evolve.files import write_picture

FOLDER = "replay"
STREAM = 2  # of random numbers, apart from those of other choices by (seed, step)


class Replay:
    """The newest of the pictures that were kept, numbered in the order of their coming.

    Every process holds all of them; process 0 writes the files. A file stays until no checkpoint
    that may still be restored needs it.

    Attributes:
      first: number of the oldest picture held.
      pictures: from the oldest to the newest.
    """

    def __init__(self, folder: Path, size: int, checkpoints: int):
        self.first = 0
        self.pictures: deque[Picture] = deque()
        self._folder, self._size = folder / FOLDER, size
        self._needed: deque[int] = deque(maxlen=checkpoints + 1)

    def __len__(self) -> int:
        return len(self.pictures)

    def add(self, kept: Sequence[Kept]) -> None:
        """Takes the kept pictures of all processes in; the oldest go."""
        # By reward, so that the order does not depend on how examples are dealt to processes.
        for one in sorted(processes.gather_kept(kept), key=lambda one: one.reward):
            if processes.leads():
                self._folder.mkdir(exist_ok=True)
                write_picture(self._path(self.first + len(self)), one.pixels)
            self.pictures.append(to_picture(one.pixels))
            if len(self) > self._size:
                self.pictures.popleft()
                self.first += 1

    def choose(self, count: int, seed: int, step: int) -> list[Picture]:
        """Pictures of a step; some come twice where there are too few."""
        rng = np.random.default_rng([seed, STREAM, step])
        chosen = rng.choice(len(self), count, replace=count > len(self))
        return [self.pictures[n] for n in chosen.tolist()]

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps: numbers of the first picture and past the last one."""
        return {"first": self.first, "end": self.first + len(self)}

    def restore(self, state: Mapping[str, int]) -> None:
        """Reads the pictures of a checkpoint back."""
        self.first = state["first"]
        numbers = range(state["first"], state["end"])
        self.pictures = deque(open_picture(self._path(number)) for number in numbers)

    def forget(self) -> None:
        """Removes files that only checkpoints needed that are gone; call it at every checkpoint."""
        self._needed.append(self.first)
        if len(self._needed) == self._needed.maxlen and processes.leads():
            for path in self._folder.glob("*.png"):
                if int(path.stem) < self._needed[0]:
                    path.unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.png"
