"""The pictures of every step: a share of the stream for this process, and replayed ones."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds
from PIL.Image import Image as Picture

from asg_jax.train.data import scenes_builder
from asg_jax.train.data.folder import FolderSource
from asg_jax.train.data.loading import Source, batches
from asg_jax.train.data.scenes_builder import SceneSource
from asg_jax.train.evolve import config as settings
from asg_jax.train.evolve import processes
from asg_jax.train.evolve.replay import Replay

CACHE = Path("~/.cache/asg_jax/scenes")  # rendered once, for all runs


def open_source(data: settings.Data) -> Source:
    """The unlabeled pictures of a run; rendered scenes are made where they are missing."""
    if data.folder:
        return FolderSource(Path(data.folder).expanduser())
    tfds.disable_progress_bar()
    with redirect_stdout(None):  # TFDS speaks of a download that does not happen
        if processes.leads():  # the others may share its disk
            scenes_builder.prepare("images", CACHE.expanduser())
        processes.wait("scenes")
        return SceneSource(scenes_builder.prepare("images", CACHE.expanduser()))


class Feed:
    """Pictures with their ids, step by step.

    The stream moves on by a whole batch at every step, also where replayed pictures take the
    place of its own: its position does not depend on the buffer.
    """

    def __init__(self, source: Source, replay: Replay, config: settings.RunConfig):
        self.replay = replay
        self._config, self._count = config, len(source)
        self._part, self._parts = jax.process_index(), jax.process_count()
        stream = batches(
            source, batch=1, seed=config.seed, process=self._part, processes=self._parts
        )
        self._stream = iter(stream)

    def next(self, step: int, phase: str) -> tuple[list[Picture], list[int]]:
        """This process's pictures of a step, and the numbers that its randomness hangs on."""
        rows = getattr(self._config.batch, phase)
        examples = [example for (example,) in islice(self._stream, rows // self._parts)]
        pictures = [example.picture for example in examples]
        ids = [example.id for example in examples]
        # Rows are counted over all processes, which take every n-th, as from the stream.
        for row, picture in self._replayed(step, phase, rows):
            if row % self._parts == self._part:
                pictures[row // self._parts] = picture
                ids[row // self._parts] = self._count + row
        return pictures, ids

    def _replayed(self, step: int, phase: str, rows: int) -> list[tuple[int, Picture]]:
        """The last rows of a batch, where there is something to replay."""
        replay, held = self._config.replay, len(self.replay)
        if replay.only and held:
            count = rows
        elif phase == "understanding":
            count = min(round(replay.share * rows), held)
        else:
            count = 0
        if count == 0:
            return []
        chosen = self.replay.choose(count, self._config.seed, step)
        return list(zip(range(rows - count, rows), chosen, strict=True))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: positions of all processes, and the replayed pictures."""
        position = np.array(self._stream.get_state()["next_index"], np.int32)
        return {"positions": processes.gather(position).tolist(), "replay": self.replay.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint, also with another number of processes."""
        positions = state["positions"]
        same = len(positions) == self._parts
        position = positions[self._part] if same else sum(positions) // self._parts
        self._stream.set_state({"next_index": position})
        self.replay.restore(state["replay"])
