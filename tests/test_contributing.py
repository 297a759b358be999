"""What CONTRIBUTING tells to write is written, and runs."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax import methods
from asg_jax.signals import table
from asg_jax.train.commands import evolve
from asg_jax.train.evolve.logs import read_metrics
from tests.conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
LONGEST = 60  # lines of a method that bear code, imports left out
SMALL = {
    "steps": 2,
    "batch.generation": 8,  # one for each of the simulated devices
    "eval.questions": 16,
    "eval.prompts": 8,
    "eval.votes": 2,
    "eval.best_of": 2,
    "eval.best_of_prompts": 4,
    "eval.steps": 2,
    "method.sampler.steps": 2,
    "method.images": 2,
}


def code(heading: str) -> str:
    """The code of a section."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)[0]


def run(written: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports code as the module that a user would write it into."""
    path.write_text(written)
    monkeypatch.syspath_prepend(path.parent)
    importlib.import_module(path.stem)
    monkeypatch.delitem(sys.modules, path.stem)


@pytest.mark.slow
def test_a_method_in_one_short_file_runs_by_its_name(tmp_path: Path, monkeypatch) -> None:
    written = code("How to add a method")
    lines = [
        line for line in written.splitlines() if line and not line.startswith(("from", "impo"))
    ]
    assert len(lines) <= LONGEST
    monkeypatch.setattr(methods, "METHODS", methods.METHODS)
    monkeypatch.setitem(methods.METHODS, "best_of_n", None)  # taken out again at the end
    run(written, tmp_path / "best_of_n.py", monkeypatch)
    folder = tmp_path / "run"
    flags = [f"--config.{name}={value}" for name, value in SMALL.items()]
    evolve.main(["--config=bagel_tiny:best_of_n", f"--workdir={folder}", *flags])
    first, second = read_metrics(folder)
    assert {first["phase"], second["phase"]} == {"drawing"}
    assert first["gradient/generator"] > 0 and np.isfinite(second["reward/generator"])
    assert sorted(path.name for path in (folder / "adapters").iterdir()) == ["generator"]


def test_a_signal_is_a_function_and_a_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(table, "DRAWINGS", dict(table.DRAWINGS))
    run(code("How to add a signal"), tmp_path / "agreement.py", monkeypatch)
    weights = table.weights_of(table.DRAWINGS, agreement=2.0)
    table.check_weights("weights", table.DRAWINGS, weights)
    drawn = type("Drawn", (), {"fraction": jnp.array([[[1.0, 0.5]]])})
    found = table.read(table.DRAWINGS, weights, drawn, table.Numbers())
    assert found["agreement"].tolist() == [[0.75]]


def test_programs_and_models_name_no_method() -> None:
    found = subprocess.run(
        ["grep", "-rnE", r"methods\.asg|import Asg", "--include=*.py", "train", "models"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""
