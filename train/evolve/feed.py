"""The pictures of every step: a share of the stream for this process, and replayed ones."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import cast

import grain
import jax
import tensorflow_datasets as tfds
from PIL import ImageOps
from PIL.Image import Image as Picture
from PIL.Image import Resampling

from asg_jax.engine.method import Examples, Method, Phase, phase_of
from asg_jax.errors import UserError
from asg_jax.train.data import scenes_builder
from asg_jax.train.data.folder import FolderSource
from asg_jax.train.data.loading import Example, Source
from asg_jax.train.data.scenes_builder import SceneSource
from asg_jax.train.evolve import config as settings
from asg_jax.train.evolve import processes
from asg_jax.train.evolve.background import in_background
from asg_jax.train.evolve.replay import Replay
from asg_jax.train.mesh import Share

CACHE = Path("~/.cache/asg_jax/scenes")  # rendered once, for all runs
READERS = 8  # threads that load pictures


def open_source(data: settings.Data) -> Source:
    """The unlabeled pictures of a run; rendered scenes are made where they are missing."""
    if data.folder:
        return FolderSource(data.folder)
    tfds.disable_progress_bar()
    with redirect_stdout(None):  # TFDS speaks of a download that does not happen
        if processes.leads():  # the others may share its disk
            scenes_builder.prepare("images", CACHE.expanduser())
        processes.wait()
        return SceneSource(scenes_builder.prepare("images", CACHE.expanduser()))


def square(picture: Picture, side: int) -> Picture:
    """A picture resized to fill a square, of which the middle is left; 0 changes nothing."""
    return ImageOps.fit(picture, (side, side), Resampling.BICUBIC) if side else picture


def first_picture(source: Source, side: int) -> Picture:
    """The first picture that can be read, as a run brings it to its size."""
    found = next(filter(None, (source[n] for n in range(len(source)))))
    return square(found.picture, side)


class Feed:
    """Examples step by step, made ready beside the step before.

    What a step takes from the stream depends on the step alone: on no process, and on nothing
    that was read. The stream moves on by a whole batch at every step, also where replayed pictures
    take the place of its own.
    """

    def __init__(
        self,
        source: Source,
        replay: Replay,
        config: settings.RunConfig,
        method: Method,
        share: Share,
    ):
        self.replay = replay
        self._source, self._config, self._method, self._share = source, config, method, share
        self._order = grain.MapDataset.range(len(source)).seed(config.seed).shuffle().repeat()
        self._fresh: Future[list[Example]]
        self._next: Future[Examples]

    def load(self, step: int) -> None:
        """Begins to load what a step takes from the stream."""
        cycle = [phase for phase in self._method.phases for _ in range(phase.steps)]
        sizes = [self._batch(phase) for phase in cycle]
        cycles, steps = divmod(step - 1, len(cycle))
        start = cycles * sum(sizes) + sum(sizes[:steps])
        places = [start + row for row in self._share.rows(sizes[steps])]
        self._fresh = in_background(partial(self._read, places))

    def complete(self, step: int) -> None:
        """Goes on to make the examples of that step, once the buffer has what it may choose."""
        phase = phase_of(step, self._method.phases)
        total = self._batch(phase)
        rows, fresh = self._share.rows(total), self._fresh
        replayed = self._replayed(step, phase, total)
        self._next = in_background(lambda: self._examples(step, fresh.result(), rows, replayed))

    def ready(self, seconds: float) -> bool:
        """Waits so long at most; whether the examples are made, or failed."""
        return bool(wait([self._next], seconds).done)

    @property
    def fault(self) -> BaseException | None:
        """Why the examples cannot be had, if that is known."""
        return self._next.exception() if self._next.done() else None

    def take(self) -> Examples:
        """The examples of the step that was completed last."""
        return self._next.result()

    def _batch(self, phase: Phase) -> int:
        return getattr(self._config.batch, phase.batch)

    def _read(self, places: Sequence[int]) -> list[Example]:
        """The pictures at these places of the endless stream."""
        deal = lambda n: in_background(lambda: [self._example(p) for p in places[n::READERS]])
        parts = [deal(n) for n in range(min(READERS, len(places)))]
        return [parts[n % READERS].result()[n // READERS] for n in range(len(places))]

    def _example(self, place: int) -> Example:
        """The picture of a place, or the next one of the source that can be read."""
        number, count = cast(int, self._order[place]), len(self._source)
        for offset in range(count):
            example = self._source[(number + offset) % count]
            if example is not None:
                return Example(example.id, square(example.picture, self._config.data.side))
        name = self._config.data.folder or "the set of scenes"
        raise UserError(
            f"{name}: none of {count} pictures can be read any more; bring them back, and the"
            " same command goes on."
        )

    def _replayed(self, step: int, phase: Phase, total: int) -> dict[int, Picture]:
        """The last rows of a batch, where there is something to replay."""
        replay, held = self._config.replay, len(self.replay.held(step))
        if replay.only and held:
            count = total
        else:
            count = min(round(replay.share * total), held) if phase.replays else 0
        if count == 0:
            return {}
        chosen = self.replay.choose(count, self._config.seed, step)
        return dict(zip(range(total - count, total), chosen, strict=True))

    def _examples(
        self,
        step: int,
        fresh: Sequence[Example],
        rows: Sequence[int],
        replayed: Mapping[int, Picture],
    ) -> Examples:
        side, count = self._config.data.side, len(self._source)
        chosen = [
            Example(count + row, square(replayed[row], side)) if row in replayed else own
            for row, own in zip(rows, fresh, strict=True)
        ]
        request = self._method.prepare([example.picture for example in chosen])
        ids = tuple(example.id for example in chosen)
        return Examples(self._config.seed, step, ids, tuple(rows), request)


def form(examples: Examples) -> int:
    """A number that differs where the arrays of examples have other shapes."""
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(examples.request)]
    return zlib.crc32(repr(shapes).encode()) >> 1  # an int32 that is not negative
