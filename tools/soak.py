"""Watches the memory of one long run, and fits how it grows.

python -m tools.soak --folder=runs/kills --steps=2000
python -m tools.soak --folder=runs/kills --report=docs/reliability.md

In the folder of `tools.kill_campaign` it finds the model and the programs of that.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import stats

from asg_jax.errors import UserError
from asg_jax.train.commands import evolve
from asg_jax.train.evolve.files import read_json, write_json
from asg_jax.train.flags import number, parse
from tools import tiny_run
from tools.kill_campaign import fork
from tools.report import put

USAGE = "usage: python -m tools.soak --folder=FOLDER [--steps=N] [--report=FILE]"
LOOKS = "memory.jsonl"
EVERY = 2.0  # seconds between two looks
WARM = 0.2  # share of the steps that come before anything is fitted
BLOCK = 25  # steps whose mean is one point of the fit: neighbours are not independent
MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")


def watch(folder: Path, steps: int) -> None:
    """Runs to the end; writes down the memory of its last process: lines of [step, bytes]."""
    tiny_run.set_up(folder / "programs")
    material, run, log = folder / "material", folder / "soak", folder / "soak.txt"
    if not material.exists():
        os.waitpid(fork(lambda: tiny_run.make(material), log), 0)
    config = f"--config={tiny_run.__file__}:{material}"
    words = [config, f"--workdir={run}", f"--config.steps={steps}", "--config.checkpoint.every=50"]
    process = fork(lambda: evolve.main(words), log)
    with (folder / LOOKS).open("w") as file:
        while not (ended := os.waitpid(process, os.WNOHANG))[0]:
            file.write(json.dumps([step_of(run), resident(process)]) + "\n")
            file.flush()
            time.sleep(EVERY)
    if ended[1]:
        raise UserError(f"the run ended with status {ended[1]}; see {log}.")


def step_of(run: Path) -> int:
    """The last step that a run told of, in this session or before."""
    path = run / "status.json"
    return read_json(path).get("step", 0) if path.exists() else 0


def resident(process: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE


def fit(looks: Sequence[Sequence[int]]) -> dict[str, Any]:
    """How memory grows, by least squares over means of blocks of steps.

    Args:
      looks: step and bytes, in order.
    """
    table = np.array(looks, float)
    first, last = table[0, 0], table[-1, 0]
    late = table[table[:, 0] >= first + WARM * (last - first)]
    blocks = late[:, 0] // BLOCK
    points = np.array([late[blocks == block].mean(0) for block in np.unique(blocks)])
    x, y = points[:, 0] / 1000, points[:, 1] / MIB
    line: Any = stats.linregress(x, y)
    half = stats.t.ppf(0.975, len(x) - 2) * line.stderr
    return {
        "steps": int(last - first),
        "last_step": int(last),
        "from_step": int(late[0, 0]),
        "looks": len(table),
        "mib_at_the_end": round(float(y[-1]), 1),
        "slope_mib_per_1000_steps": round(float(line.slope), 2),
        "ci95": [round(float(line.slope - half), 2), round(float(line.slope + half), 2)],
        "intercept_mib": float(line.intercept),
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The fit in words."""
    low, high = found["ci95"]
    yield (
        f"{found['steps']} steps in one process: {found['mib_at_the_end']:.0f} MiB at the end;"
        f" from step {found['from_step']} on the memory grows by"
        f" {found['slope_mib_per_1000_steps']:+.2f} MiB per 1,000 steps (95 % interval"
        f" {low:+.2f} to {high:+.2f})."
    )
    yield ""
    yield "![Resident memory by step](soak.png)"


def draw(table: Float[np.ndarray, "looks 2"], found: Mapping[str, Any], path: Path) -> None:
    """Memory by step, with the line."""
    figure = Figure(figsize=(7, 3))
    axes = figure.subplots()
    axes.plot(table[:, 0], table[:, 1] / MIB, ".", markersize=2, label="every two seconds")
    ends = np.array([found["from_step"], found["last_step"]])
    slope = found["slope_mib_per_1000_steps"] / 1000
    axes.plot(ends, found["intercept_mib"] + slope * ends, label="least squares")
    axes.set(xlabel="step", ylabel="resident memory, MiB", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=100, bbox_inches="tight")


def main() -> int:
    """Runs, or reports."""
    f = flags.FlagValues()
    flags.DEFINE_string("folder", None, "Of the run and its programs.", f, required=True)
    flags.DEFINE_string("report", None, "Markdown file to put the result into.", f)
    number(f, "steps", 2000, "Of the run.", least=100)
    if parse(f, sys.argv[1:], USAGE) is None:
        return 0
    folder = Path(f.folder).absolute()
    if f.report is None:
        folder.mkdir(parents=True, exist_ok=True)
        watch(folder, f.steps)
    looks = [json.loads(line) for line in (folder / LOOKS).read_text().splitlines()]
    looks = [look for look in looks if 0 < look[0] < looks[-1][0]]  # without both judgements
    found = fit(looks)
    if f.report:
        out = Path(f.report)
        write_json(out.with_name("soak.json"), found)
        draw(np.array(looks, float), found, out.with_name("soak.png"))
        put(out, "soak", lines(found))
    print("\n".join(lines(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
