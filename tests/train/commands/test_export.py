"""What `asg-jax export` writes opens again, tells what it is, and can be checked."""

import json
import subprocess

import jax
import numpy as np
import pytest

from asg_jax.adapters import init_roles, merge
from asg_jax.models import peft
from asg_jax.models.registry import open_model
from asg_jax.train.evolve.config import read
from asg_jax.train.evolve.files import write_json
from asg_jax.train.evolve.learned import ADAPTERS, open_roles
from asg_jax.train.evolve.typed import plain
from asg_jax.train.flags import load_config
from asg_jax.train.main import main

GAIN = {"before": 70.0, "after": 75.0, "delta": 5.0, "ci95": [3.0, 7.0]}
SUMMARY = {
    "steps": 200,
    "checks": {"yes_rate": {"first": 0.5, "last": 0.8}},
    **{n: GAIN | {"by_kind": {"kind": GAIN}} for n in ("understanding", "sampled", "generation")},
    "versions": {"jax": "0.10.2"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder as a finished run on `bagel-tiny` leaves it."""
    folder, model = tmp_path_factory.mktemp("export") / "run", open_model("bagel-tiny")
    folder.mkdir()
    write_json(folder / "config.json", plain(read(load_config("bagel_tiny").to_dict())))
    write_json(folder / "summary.json", SUMMARY)
    roles = jax.eval_shape(lambda: init_roles(jax.random.key(0), model.base, model.family.roles))
    rng = np.random.default_rng(0)
    learned = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), roles)
    for role, adapter in learned.items():
        peft.save(folder / ADAPTERS / role, adapter, model.official_module, "bagel-tiny")
    return folder


def equal(one, other):
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), one, other
    )


def test_adapters_open_as_the_run_does(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(run), f"--out={out}"]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    (_, before), (model, after) = open_roles(str(run)), open_roles(str(out))
    assert sorted(after) == ["generator", "proposer", "solver"] and model.language == "scenes"
    for role in before:
        equal(before[role].adapter, after[role].adapter)


@pytest.mark.parametrize("role", ["solver", "generator"])
def test_merged_weights_are_a_model_of_their_own(run, tmp_path, role):
    out = tmp_path / "out"
    assert main(["export", str(run), f"--out={out}", f"--merge={role}"]) == 0
    model, roles = open_roles(str(run))
    found = open_model(str(out))
    adapter = roles[role].adapter
    assert adapter is not None and found.language == "scenes"
    equal(found.base, merge(model.base, adapter))
    assert not list(out.glob("adapters"))


def test_the_card_tells_method_scores_checks_and_licence(run, tmp_path):
    main(["export", str(run), f"--out={tmp_path / 'out'}"])
    card = (tmp_path / "out" / "README.md").read_text()
    head = card.split("---\n")[1]
    assert "base_model: bagel-tiny\n" in head and "license: apache-2.0\n" in head
    assert "200 steps of the method `asg`" in card
    assert "| questions, greedy | 70.0 | 75.0 | +5.0 [+3.0, +7.0] |" in card
    assert "1 of 5 checks are suspicious: yes_rate." in card
    assert "Made with jax 0.10.2." in card and "    method.solver.learning_rate = 0.00015" in card


def test_the_checksums_cover_every_file(run, tmp_path):
    out = tmp_path / "out"
    main(["export", str(run), f"--out={out}"])
    check = ["sha256sum", "-c", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=out, capture_output=True).returncode == 0
    named = {line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    there = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert named == there - {"SHA256SUMS"}
    (out / "README.md").write_text("other")
    assert subprocess.run(check, cwd=out, capture_output=True).returncode == 1


def test_what_cannot_be_exported_is_one_line(run, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    for words, line in (
        ([str(tmp_path), f"--out={tmp_path / 'out'}"], "holds no finished run"),
        ([str(run), f"--out={tmp_path / 'taken'}"], "exists already"),
        (
            [str(run), f"--out={tmp_path / 'out'}", "--merge=judge"],
            "no role 'judge'; its roles are",
        ),
        ([str(run)], "--out is missing"),
    ):
        assert main(["export", *words]) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists()
    damaged = json.loads((run / "summary.json").read_text())
    assert damaged == SUMMARY  # nothing was changed
