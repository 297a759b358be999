"""Saving and restoring: arrays and host facts of one step together, in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from asg_jax.engine.state import TrainState
from asg_jax.errors import UserError
from asg_jax.train.evolve import processes
from asg_jax.train.evolve.config import Saving
from asg_jax.train.evolve.files import Folder, is_local
from asg_jax.train.evolve.logs import say

FOLDER = "checkpoints"


class Checkpoints:
    """The saved steps of a run; a context that ends when the last one is on disk.

    Saving goes on beside the steps that follow, so a kill may cost twice the steps between two
    checkpoints. A step exists once it is complete: a process that is killed while it saves leaves
    the steps before as they were.
    """

    def __init__(self, folder: Folder, settings: Saving):
        self._keep = settings.keep
        self._folder = folder.absolute() / FOLDER if is_local(folder) else folder / FOLDER
        options = ocp.CheckpointManagerOptions(
            max_to_keep=settings.keep, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.close()

    def save(self, step: int, state: TrainState, host: Mapping[str, Any]) -> None:
        """Starts to save a step; arrays may be given away as soon as this returns."""
        save = ocp.args.Composite(
            state=ocp.args.StandardSave(state),  # pyright: ignore[reportCallIssue]
            host=ocp.args.JsonSave(dict(host)),  # pyright: ignore[reportCallIssue]
        )
        self._manager.save(step, args=save)

    def restore(
        self, like: TrainState, accept: Callable[[Mapping[str, Any]], None]
    ) -> TrainState | None:
        """The newest saved step that is whole, placed on devices as `like` is; None without any.

        Newer ones are removed, and those that are older than what is kept: a process was killed
        while it removed them. All processes must call it.

        Args:
          like: a state of the same form.
          accept: takes the host facts; raises UserError where something that they name is missing.

        Raises:
          UserError: there are saved steps, and none is whole.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            fault, state = None, None
            try:
                state, host = self._read(step, like)
                accept(host)
            except Exception as error:  # readers of arrays and files raise nearly anything
                fault = error
            if not processes.agree(fault is not None):
                self._tidy(step)
                return state
            reason = " ".join(f"{type(fault).__name__}: {fault}".split())[:200]
            say(f"the checkpoint {self._folder / str(step)} is damaged ({reason})")
        if steps:
            raise UserError(
                f"no checkpoint in {self._folder} is whole; remove its folder to start anew."
            )
        return None

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        load = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract),  # pyright: ignore[reportCallIssue]
            host=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(step, args=load)
        return restored["state"], restored["host"]

    def _tidy(self, whole: int) -> None:
        """Removes the steps that a start finds beyond what it would keep."""
        steps = sorted(self._manager.all_steps())
        older = [step for step in steps if step <= whole]
        for step in [*older[: -self._keep], *(step for step in steps if step > whole)]:
            say(f"removed the checkpoint {self._folder / str(step)}")
            self._manager.delete(step)
