"""Unlabeled pictures in batches: shuffled, sharded per process, restorable.

What trains sees `Example`s and nothing else: there is no field in which a label could travel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, SupportsIndex, cast, runtime_checkable

import grain
from PIL.Image import Image as Picture

from asg_jax.errors import UserError

# Decoded pictures wait in memory: without this it is 500 of them.
AHEAD = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)


@dataclass(frozen=True)
class Example:
    """One unlabeled picture.

    Attributes:
      id: its place in the data set; random numbers of a step are drawn per id.
      picture: RGB.
    """

    id: int
    picture: Picture


@runtime_checkable
class Source(Protocol):
    """Pictures by number; None is one that could not be read, and is passed over."""

    @property
    def fingerprint(self) -> str:
        """Tells whether two sources hold the same pictures."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: SupportsIndex) -> Example | None: ...


def batches(
    source: Source,
    *,
    batch: int,
    seed: int,
    process: int = 0,
    processes: int = 1,
    epochs: int | None = None,
) -> grain.IterDataset[list[Example]]:
    """Batches of one process, every picture once per epoch, each epoch in another order.

    The k-th batches of all processes together are the same pictures for every number of processes,
    as long as `processes * batch` is the same. The iterator's `get_state()` is a small dict of
    plain numbers; `set_state()` goes on from there.

    Args:
      source: the pictures.
      batch: pictures per batch of this process.
      seed: gives the order.
      process: index of this process.
      processes: number of processes.
      epochs: times each picture is seen; None goes on for ever.

    Raises:
      UserError: there are fewer pictures than processes; while iterating, whatever the source
        raises once it has no pictures left.
    """
    if len(source) < processes:
        raise UserError(
            f"{len(source)} pictures are too few for {processes} processes; add pictures or start"
            " fewer processes."
        )
    order = grain.MapDataset.source(cast(grain.sources.RandomAccessDataSource, source))
    order = order.seed(seed).shuffle().repeat(epochs)
    # Sharded after the epochs are joined: no process runs ahead where they do not divide evenly.
    return order[process::processes].to_iter_dataset(AHEAD).batch(batch, batch_fn=list)
