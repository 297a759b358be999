"""What a run tells while it goes on: files for programs and TensorBoard, lines for people."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tensorboardX import SummaryWriter
from tensorboardX.record_writer import GCS_ENABLED
from tqdm import tqdm

from asg_jax.engine.method import Report
from asg_jax.train.evolve.files import Folder, is_local, sane, write_bytes, write_json
from asg_jax.train.evolve.processes import leads

METRICS, STATUS, BOARD = "metrics.jsonl", "status.json", "tensorboard"
LINES_EVERY = 5  # steps
SAMPLES_EVERY = 25  # steps: pictures and tables
RECENT = 20  # steps whose mean duration predicts the rest
SHOWN = "reward/"  # the group of metrics whose means a line shows


class Logs:
    """Files and lines of one session of a run; only process 0 makes them."""

    def __init__(self, folder: Folder, steps: int):
        self._folder, self._steps, self._on = folder, steps, leads()
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._facts: dict[str, Any] = {"steps": steps}
        self._due: dict[str, int] = {}
        self._writer: SummaryWriter | None = None
        self._bar: tqdm | None = None
        self._lines: list[str] = []  # that a bucket, whose files cannot grow, lacks

    def start(self, step: int) -> None:
        """Goes on after a step: forgets what was told of later ones, which come again."""
        if not self._on:
            return
        kept = [line for line in read_metrics(self._folder) if line["step"] <= step]
        self._rewrite("".join(json.dumps(line) + "\n" for line in kept))
        board = self._folder / BOARD
        if is_local(board) or GCS_ENABLED and str(board).startswith("gs://"):
            self._writer = SummaryWriter(str(board), purge_step=step + 1)
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
        self._lines.append(json.dumps(sane(line)) + "\n")
        if is_local(self._folder):
            self.flush()
        self.status("training", step=step, eta_seconds=eta, metrics=dict(report.metrics))
        self._board(step, report, seconds)
        self._tell(step, report, seconds, eta)

    def flush(self) -> None:
        """Writes the metrics that are still in memory; call it at every checkpoint."""
        if not self._lines:
            return
        path, lines = self._folder / METRICS, "".join(self._lines)
        self._lines = []
        if is_local(path):
            with path.open("a") as file:
                file.write(lines)
        else:
            self._rewrite(path.read_text() + lines)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers beside those of a step, such as scores."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def status(self, state: str, **facts: Any) -> None:
        """Writes where the run stands: evaluating, training, stopped, failed or finished."""
        if self._on:
            self._facts |= {"state": state, "updated": now(), **facts}
            write_json(self._folder / STATUS, self._facts)

    def close(self) -> None:
        """Writes what is still in memory."""
        self.flush()
        if self._writer is not None:
            self._writer.close()
        if self._bar is not None:
            self._bar.close()

    def _rewrite(self, lines: str) -> None:
        write_bytes(self._folder / METRICS, lines.encode())

    def _board(self, step: int, report: Report, seconds: float) -> None:
        self.scalars(step, {**report.metrics, f"seconds/{report.phase}": seconds})
        if self._writer is None or step < self._due.get(report.phase, 0):
            return
        self._due[report.phase] = step + SAMPLES_EVERY
        if report.rows:
            self._writer.add_text(report.phase, table(report.rows), step)
        for caption, pixels in report.pictures.items():
            self._writer.add_image(f"{report.phase}/{caption}", pixels, step, dataformats="HWC")

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
    path = folder / METRICS
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [found for found in map(_parsed, lines) if found is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
        numbers = [value for name, value in found.items() if name != "phase" and value is not None]
        whole = isinstance(found["step"], int) and all(isinstance(n, int | float) for n in numbers)
        return found if whole else None
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table."""
    cells = lambda values: "| " + " | ".join(str(v).replace("|", "\\|") for v in values) + " |"
    names = list(dict.fromkeys(name for row in rows for name in row))
    body = [cells(_short(row.get(name, "")) for name in names) for row in rows]
    return "\n".join([cells(names), cells("---" for _ in names), *body])


def _short(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value


def now() -> str:
    """The time, for people and programs."""
    return datetime.now(UTC).isoformat(timespec="seconds")
