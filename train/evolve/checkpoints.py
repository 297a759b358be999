"""Saving and restoring: arrays and host facts of one step together, in the background."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from asg_jax.methods.base import TrainState
from asg_jax.train.evolve.config import Checkpoint

FOLDER = "checkpoints"


class Checkpoints:
    """The saved steps of a run; a context that ends when the last one is on disk.

    A step exists once it is complete: a process that is killed while it saves leaves the steps
    before as they were.
    """

    def __init__(self, folder: Path, settings: Checkpoint):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=settings.keep, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager((folder / FOLDER).absolute(), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The last saved step."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, host: Mapping[str, Any]) -> None:
        """Starts to save a step; arrays may be given away as soon as this returns."""
        save = ocp.args.Composite(
            state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
            host=ocp.args.JsonSave(dict(host)),  # pyright: ignore[reportCallIssue]
        )
        self._manager.save(step, args=save)

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The last saved step, placed on devices as `like` is; None without one."""
        if self.latest is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        load = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract),  # pyright: ignore[reportCallIssue]
            host=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(self.latest, args=load)
        return restored["state"], restored["host"]
