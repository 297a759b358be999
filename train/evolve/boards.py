"""Where people watch a run: TensorBoard files, and Weights & Biases for those who want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import UInt8
from tensorboardX import SummaryWriter

from asg_jax.errors import UserError
from asg_jax.train.evolve.files import Folder, is_local

Mode = Literal["off", "offline", "online"]
Sent = Literal["offline", "online"]
PROJECT = "asg_jax"  # on W&B, where `WANDB_PROJECT` names no other


class Board(Protocol):
    """Takes numbers, tables and pictures of steps."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""
        ...

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows that share their columns."""
        ...

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """A picture."""
        ...

    def close(self) -> None:
        """Writes what is still in memory."""
        ...


class TensorBoard:
    """Event files; what an earlier session told of later steps is taken back."""

    def __init__(self, folder: Folder, step: int):
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._writer.add_text(name, markdown(rows), step)

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases, which is gone on with by the same folder.

    Steps are numbers like others there, because a resumed run tells some of them again.
    """

    def __init__(self, folder: Folder, name: str, settings: Mapping[str, Any], mode: Sent):
        """Starts or resumes it.

        Args:
          folder: the run's; offline files go into its sub-folder `wandb`, if it is local.
          name: how the run is called.
          settings: the run's values, by dotted names.
          mode: online, or offline for `wandb sync` later.

        Raises:
          UserError: wandb is not installed, or refuses.
        """
        try:
            import wandb  # pyright: ignore[reportMissingImports]  (an extra)
        except ImportError as error:
            raise UserError(
                'config.watch.wandb needs wandb; install it with pip install "asg-jax[wandb]".'
            ) from error
        self._wandb = wandb
        try:
            self._run = wandb.init(
                project=wandb.Settings().project or PROJECT,
                name=name,
                id=sha256(str(folder).encode()).hexdigest()[:16],
                resume="allow" if mode == "online" else None,
                dir=str(folder) if is_local(folder) else None,
                config=dict(settings),
                mode=mode,
                settings=wandb.Settings(silent=True, console="off"),
            )
        except (wandb.Error, OSError) as error:
            raise UserError(
                f"Weights & Biases cannot be reached ({str(error).splitlines()[0]}); take"
                " --config.watch.wandb=offline."
            ) from error
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        names: list[Any] = columns(rows)
        cells = [[str(row.get(column, "")) for column in names] for row in rows]
        self._run.log({"step": step, name: self._wandb.Table(columns=names, data=cells)})

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        self._run.log({"step": step, name: self._wandb.Image(pixels)})

    def close(self) -> None:
        self._run.finish()


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names in rows, in the order in which they come up."""
    return list(dict.fromkeys(name for row in rows for name in row))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table."""
    cells = lambda values: "| " + " | ".join(str(v).replace("|", "\\|") for v in values) + " |"
    names = columns(rows)
    body = [cells(_short(row.get(name, "")) for name in names) for row in rows]
    return "\n".join([cells(names), cells("---" for _ in names), *body])


def _short(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value
