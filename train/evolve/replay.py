"""Drawn pictures that were good enough to be learned from again, as PNG files of the run."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import Image as Picture

from asg_jax.engine.method import Kept
from asg_jax.models.pictures import to_picture
from asg_jax.train.evolve import processes
from asg_jax.train.evolve.files import Folder, damaged, write_picture

FOLDER = "replay"
STREAM = 2  # of random numbers, apart from those of other choices by (seed, step)
# A picture is never drawn again.
REMEDY = "put a copy of it back, or the run goes on from a checkpoint that does not need it"
LATE = 2  # steps until a picture can be chosen: its report is read during the step in between


@dataclass(frozen=True)
class KeptPicture:
    """A picture of the buffer, and the step that kept it."""

    step: int
    picture: Picture


class Replay:
    """The newest of the pictures that were kept, numbered in the order of their coming.

    Every process holds all of them; process 0 keeps the files. A file stays until no checkpoint
    that may still be restored needs it.

    Attributes:
      first: number of the oldest picture held.
      drawn: the oldest first; more than `size` while the newest are too new.
    """

    def __init__(self, folder: Folder, size: int, checkpoints: int):
        self.first = 0
        self.drawn: deque[KeptPicture] = deque()
        self._folder, self._size = folder / FOLDER, size
        self._needed: deque[int] = deque(maxlen=checkpoints + 1)

    def add(self, step: int, kept: Sequence[Kept], first: bool = True) -> None:
        """Takes the pictures in that a step kept, of all processes; the oldest go.

        Args:
          step: later than all before.
          kept: what this process keeps.
          first: see `processes.gather_kept`.
        """
        # By reward, so that the order does not depend on how examples are dealt to processes.
        for one in sorted(processes.gather_kept(kept, first), key=lambda one: one.reward):
            if processes.leads():
                self._folder.mkdir(exist_ok=True)
                write_picture(self._path(self.first + len(self.drawn)), one.pixels)
            self.drawn.append(KeptPicture(step, to_picture(one.pixels)))
        for _ in range(len(self._ripe(step + 1)) - self._size):
            self.drawn.popleft()
            self.first += 1

    def held(self, step: int) -> list[Picture]:
        """The pictures that a step may choose from."""
        return self._ripe(step)[-self._size :]

    def choose(self, count: int, seed: int, step: int) -> list[Picture]:
        """Pictures of a step; some come twice where there are too few."""
        rng, held = np.random.default_rng([seed, STREAM, step]), self.held(step)
        chosen = rng.choice(len(held), count, replace=count > len(held))
        return [held[n] for n in chosen.tolist()]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: number of the first picture, steps and checksums of all."""
        return {
            "first": self.first,
            "steps": [one.step for one in self.drawn],
            "checksums": [checksum(one.picture) for one in self.drawn],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Reads the pictures of a checkpoint back; all processes must call it.

        Raises:
          UserError: one cannot be read, or is another one.
        """
        self.first = state["first"]
        numbered = enumerate(zip(state["steps"], state["checksums"], strict=True), self.first)
        self.drawn = deque(KeptPicture(step, self._read(n, known)) for n, (step, known) in numbered)

    def forget(self) -> None:
        """Removes files that only checkpoints needed that are gone; call it at every checkpoint."""
        self._needed.append(self.first)
        if len(self._needed) == self._needed.maxlen and processes.leads():
            for path in self._folder.glob("*.png"):
                if int(path.stem) < self._needed[0]:
                    path.unlink()

    def _ripe(self, step: int) -> list[Picture]:
        return [one.picture for one in self.drawn if one.step <= step - LATE]

    def _read(self, number: int, known: int) -> Picture:
        path = self._path(number)

        def read() -> bytes:
            try:
                data = path.read_bytes()
                if checksum(_decoded(data)) != known:
                    raise ValueError("it is another picture than the run kept")
            except (OSError, ValueError, SyntaxError) as error:
                raise damaged(path, error, REMEDY) from error
            return data

        return _decoded(processes.bytes_from_first(read))

    def _path(self, number: int) -> Folder:
        return self._folder / f"{number:08d}.png"


def checksum(picture: Picture) -> int:
    """A number that other pixels hardly share."""
    return zlib.crc32(picture.tobytes())


def _decoded(data: bytes) -> Picture:
    return Image.open(BytesIO(data), formats=("PNG",)).convert("RGB")
