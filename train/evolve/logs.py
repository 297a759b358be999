"""What a run tells while it goes on: files for programs and TensorBoard, lines for people."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tensorboardX.record_writer import GCS_ENABLED
from tqdm import tqdm

from asg_jax.engine.method import Report
from asg_jax.train.evolve.boards import Board, TensorBoard
from asg_jax.train.evolve.files import Folder, is_local, sane, write_bytes, write_json
from asg_jax.train.evolve.processes import leads

METRICS, STATUS, BOARD = "metrics.jsonl", "status.json", "tensorboard"
SAMPLES = "samples.jsonl"  # what was asked and answered in some of the steps
LINES_EVERY = 5  # steps
SAMPLES_EVERY = 25  # steps: pictures and tables
RECENT = 20  # steps whose mean duration predicts the rest
SHOWN = "reward/"  # the group of metrics whose means a line shows


class Lines:
    """A file of JSON lines, one or none for every step, that a resumed run cuts off and goes on."""

    def __init__(self, path: Folder):
        self._path = path
        self._new: list[str] = []  # that a bucket, whose files cannot grow, lacks

    def add(self, line: Mapping[str, Any]) -> None:
        """One more, in memory."""
        self._new.append(json.dumps(sane(line)) + "\n")

    def forget(self, step: int) -> None:
        """Drops the lines of later steps."""
        kept = [line for line in read_lines(self._path) if line["step"] <= step]
        write_bytes(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def flush(self) -> None:
        """Writes what is still in memory."""
        if not self._new:
            return
        lines, self._new = "".join(self._new), []
        if is_local(self._path):
            with self._path.open("a") as file:
                file.write(lines)
        else:
            write_bytes(self._path, (self._path.read_text() + lines).encode())


class Logs:
    """Files and lines of one session of a run; only process 0 makes them."""

    def __init__(self, folder: Folder, steps: int, boards: Sequence[Board] = ()):
        """Makes them.

        Args:
          folder: the run's.
          steps: steps that the run takes.
          boards: what is told beside TensorBoard; they are closed with the rest.
        """
        self._folder, self._steps, self._on = folder, steps, leads()
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._facts: dict[str, Any] = {"steps": steps}
        self._due: dict[str, int] = {}
        self._boards = list(boards)
        self._bar: tqdm | None = None
        self._files = {name: Lines(folder / name) for name in (METRICS, SAMPLES)}

    def start(self, step: int) -> None:
        """Goes on after a step: forgets what was told of later ones, which come again."""
        if not self._on:
            return
        for lines in self._files.values():
            lines.forget(step)
        board = self._folder / BOARD
        if is_local(board) or GCS_ENABLED and str(board).startswith("gs://"):
            self._boards.append(TensorBoard(board, step))
        else:
            say(f"no TensorBoard in {board}: that takes google-cloud-storage and a gs:// folder")
        if sys.stderr.isatty():
            self._bar = tqdm(total=self._steps, initial=step, unit="step", desc="evolve")
        self.status("training", step=step)

    def step(self, step: int, report: Report, seconds: float) -> None:
        """One step was taken."""
        if not self._on:
            return
        self._durations.append(seconds)
        eta = (self._steps - step) * sum(self._durations) / len(self._durations)
        line = {"step": step, "phase": report.phase, "seconds": seconds, **report.metrics}
        self._files[METRICS].add(line)
        told = self._is_due(step, report)
        if told and report.rows:
            rows = list(map(dict, report.rows))
            self._files[SAMPLES].add({"step": step, "phase": report.phase, "rows": rows})
        if is_local(self._folder):
            self.flush()
        self.status("training", step=step, eta_seconds=eta, metrics=dict(report.metrics))
        self.scalars(step, {**report.metrics, f"seconds/{report.phase}": seconds})
        if told:
            self._show(step, report)
        self._tell(step, report, seconds, eta)

    def flush(self) -> None:
        """Writes the lines that are still in memory; call it at every checkpoint."""
        for lines in self._files.values():
            lines.flush()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers beside those of a step, such as scores."""
        for board in self._boards:
            board.scalars(step, values)

    def status(self, state: str, **facts: Any) -> None:
        """Writes where the run stands: evaluating, training, stopped, failed or finished."""
        if self._on:
            self._facts |= {"state": state, "updated": now(), **facts}
            write_json(self._folder / STATUS, self._facts)

    def close(self) -> None:
        """Writes what is still in memory."""
        self.flush()
        for board in self._boards:
            board.close()
        if self._bar is not None:
            self._bar.close()

    def _is_due(self, step: int, report: Report) -> bool:
        """Whether pictures and tables of a step are told, not only its numbers."""
        if step < self._due.get(report.phase, 0):
            return False
        self._due[report.phase] = step + SAMPLES_EVERY
        return True

    def _show(self, step: int, report: Report) -> None:
        for board in self._boards:
            if report.rows:
                board.table(step, report.phase, report.rows)
            for caption, pixels in report.pictures.items():
                board.picture(step, f"{report.phase}/{caption}", pixels)

    def _tell(self, step: int, report: Report, seconds: float, eta: float) -> None:
        rewards = {n: v for n, v in report.metrics.items() if n.startswith(SHOWN) and "_" not in n}
        shown = {name.removeprefix(SHOWN): value for name, value in rewards.items()}
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()})
            self._bar.update()
        elif step % LINES_EVERY == 0 or step == self._steps:
            told = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
            left = timedelta(seconds=round(eta))
            print(
                f"step {step}/{self._steps}  {report.phase:<13}  {seconds:6.2f} s  {left} left"
                f"  rewards: {told or 'none'}",
                flush=True,
            )


def say(*texts: str) -> None:
    """Prints lines, once for all processes."""
    if leads():
        print(*texts, sep="\n", flush=True)


def read_metrics(folder: Folder) -> list[dict[str, Any]]:
    """The lines of a run's metrics, without those that are cut off or damaged."""
    return [line for line in read_lines(folder / METRICS) if _is_metrics(line)]


def read_lines(path: Folder) -> list[dict[str, Any]]:
    """The objects in a file of lines, without those that a kill cut off."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [found for found in map(_parsed, lines) if isinstance(found, dict) and "step" in found]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_metrics(line: Mapping[str, Any]) -> bool:
    numbers = [value for name, value in line.items() if name != "phase" and value is not None]
    return isinstance(line["step"], int) and all(isinstance(n, int | float) for n in numbers)


def now() -> str:
    """The time, for people and programs."""
    return datetime.now(UTC).isoformat(timespec="seconds")
