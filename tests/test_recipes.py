"""What docs/recipes.md tells to write is written, and runs."""

import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import asg_jax
from asg_jax import methods
from asg_jax.backbone import Params, encode
from asg_jax.engine import roles
from asg_jax.errors import UserError
from asg_jax.objectives import texts
from asg_jax.rollout.text import TextRollout, Texts, score
from asg_jax.signals import table
from asg_jax.testing import toy
from asg_jax.train import flags
from asg_jax.train.commands import evolve
from asg_jax.train.data.loading import Source
from asg_jax.train.evolve import run as evolve_run
from asg_jax.train.evolve.config import Replaying, read
from asg_jax.train.evolve.logs import read_metrics
from tests.conftest import ROOT
from tests.train.evolve.fake import CONFIG, PRESET, FakeMethod, make_parts

TEXT = (ROOT / "docs" / "recipes.md").read_text()
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


def run(written: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports code as the module that a user would write it into."""
    path.write_text(written)
    monkeypatch.syspath_prepend(path.parent)
    module = importlib.import_module(path.stem)
    monkeypatch.delitem(sys.modules, path.stem)
    return module


def steps(config: str, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """The metrics of a short run."""
    flags = [f"--config.{name}={value}" for name, value in {**SMALL, **changes}.items()]
    evolve.main([f"--config={config}", f"--workdir={folder}", *flags])
    return list(read_metrics(folder))


@pytest.mark.slow
def test_a_method_in_one_short_file_runs_by_its_name(tmp_path: Path, monkeypatch) -> None:
    written = code("A method")
    lines = [
        line for line in written.splitlines() if line and not line.startswith(("from", "impo"))
    ]
    assert len(lines) <= LONGEST
    monkeypatch.setattr(methods, "METHODS", methods.METHODS)
    monkeypatch.setitem(methods.METHODS, "best_of_n", None)  # taken out again at the end
    run(written, tmp_path / "best_of_n.py", monkeypatch)
    folder = tmp_path / "run"
    first, second = steps("bagel_tiny:best_of_n", folder)
    assert {first["phase"], second["phase"]} == {"drawing"}
    assert first["gradient/generator"] > 0 and np.isfinite(second["reward/generator"])
    assert sorted(path.name for path in (folder / "adapters").iterdir()) == ["generator"]


def test_a_signal_is_a_function_and_a_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(table, "DRAWINGS", dict(table.DRAWINGS))
    run(code("A signal"), tmp_path / "agreement.py", monkeypatch)
    weights = table.weights_of(table.DRAWINGS, agreement=2.0)
    table.check_weights("weights", table.DRAWINGS, weights)
    drawn = type("Drawn", (), {"fraction": jnp.array([[[1.0, 0.5]]])})
    found = table.read(table.DRAWINGS, weights, drawn, table.Numbers())
    assert found["agreement"].tolist() == [[0.75]]


def test_an_objective_is_chosen_by_its_name_and_learns(tmp_path: Path, monkeypatch) -> None:
    winners = run(code("An objective"), tmp_path / "winners.py", monkeypatch).Winners
    monkeypatch.setattr(roles, "TextObjective", texts.TextObjective | winners)
    chosen = "--config.method.solver.objective.name=winners"
    least = "--config.method.solver.objective.winners.least="
    f = evolve.define()
    flags.parse(f, [chosen, f"{least}0.5"], "usage")
    assert read(f.config.to_dict()).method.solver.objective == winners(least=0.5)
    f = evolve.define()
    flags.parse(f, [chosen, f"{least}-1"], "usage")
    with pytest.raises(UserError, match="objective.least is -1.0; it must be at least 0"):
        read(f.config.to_dict())

    backbone, seen = toy.Toy(), toy.request(1)
    ids = jnp.arange(3).reshape(1, 3, 1)
    told = Texts(ids[..., :0], ids[..., :0] > 0)
    zeros = jnp.zeros(ids.shape)
    spoken = TextRollout(
        ids, ids >= 0, zeros, zeros, zeros, temperature=jnp.ones((1, 3)), steps=ids[..., 0]
    )
    advantages = jnp.array([[1.0, 0.2, -1.2]])
    lesson = texts.TextLesson(texts.Said(seen, told, spoken), advantages, advantages < 2)
    base = toy.base()

    text_losses = inspect.unwrap(texts.text_losses)  # the annotation knows the union of before

    def loss(adapter):
        losses = text_losses(winners(0.5), backbone, base, adapter, lesson, 0.0)
        return (losses.values * losses.kept).sum(), losses.kept

    def log_probs(adapter):
        prompt = encode(backbone, Params(base, adapter), seen).main
        given = Texts(ids, ids >= 0)
        return score(backbone, Params(base, adapter), prompt, told, given).log_prob[0, :, 0]

    adapter = toy.adapter()
    gradient, kept = jax.grad(loss, has_aux=True)(adapter)
    assert kept.tolist() == [[True, False, False]]
    after = jax.tree.map(lambda x, g: x - 0.01 * g, adapter, gradient)
    assert log_probs(after)[0] > log_probs(adapter)[0] + 1e-4


@pytest.mark.slow
def test_a_setting_is_a_field_and_a_line(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(methods.METHODS, "short_gvu", None)  # taken out again at the end
    run(code("A setting"), tmp_path / "short_gvu.py", monkeypatch)
    evolve.main(["--config=bagel_tiny:short_gvu", "--help"])
    told = capsys.readouterr().out
    assert "words" in told and "most words of a caption that is drawn" in told
    with pytest.raises(UserError, match="config.method.words is 0; it must be at least 1"):
        steps("bagel_tiny:short_gvu", tmp_path / "none", **{"method.words": 0})
    drawn = lambda words: [
        row["check/prompts"]
        for row in steps(
            "bagel_tiny:short_gvu",
            tmp_path / str(words),
            **{"method.words": words, "steps": 1, "eval.questions": 4, "eval.prompts": 4},
        )
    ]
    assert drawn(1) == [0] and drawn(12)[0] > 0


def test_a_data_source_gives_pictures_by_number(tmp_path: Path, monkeypatch) -> None:
    with ZipFile(tmp_path / "pictures.zip", "w") as file:
        for n in range(5):
            with file.open(f"{n}.png", "w") as place:
                Image.new("RGB", (8, 8), (n, 0, 0)).save(place, "png")
        file.writestr("notes.txt", "no picture")
        file.writestr("7.png", "no picture either")
    made = run(code("A data source"), tmp_path / "zips.py", monkeypatch).ZipSource
    source = made(str(tmp_path / "pictures.zip"))
    assert isinstance(source, Source) and len(source) == 6 and source[5] is None
    assert source.fingerprint == made(str(tmp_path / "pictures.zip")).fingerprint
    method = FakeMethod()
    parts = lambda config: replace(make_parts(method), source=source)
    monkeypatch.setattr(methods, "METHODS", {"fake": PRESET})
    monkeypatch.setattr(evolve_run, "assemble", parts)
    asg_jax.evolve(replace(CONFIG, steps=4, replay=Replaying(share=0.0)), tmp_path / "run")
    seen = [n for ids in method.seen for n in ids]
    assert set(seen) == {0, 1, 2, 3, 4}


def test_a_backbone_is_checked(tmp_path: Path, monkeypatch) -> None:
    run(code("A backbone"), tmp_path / "forgetful.py", monkeypatch)


def test_the_recipes_are_all_here() -> None:
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    tested = re.findall(r'code\("(.*?)"\)', Path(__file__).read_text())
    assert sorted(headings) == sorted(tested)


def test_programs_and_models_name_no_method() -> None:
    found = subprocess.run(
        ["grep", "-rnE", r"methods\.asg|import Asg", "--include=*.py", "train", "models"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""
