"""`asg-jax evaluate`: the table, the files, one clear line for bad input."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from asg_jax.models.registry import small_family
from asg_jax.train.data.questions import KINDS
from asg_jax.train.evaluate.prompts import CATEGORIES
from asg_jax.train.evaluate.scores import Scores, summary
from asg_jax.train.main import main
from tests.train.evaluate.conftest import random_model

FEW = [
    *("--config.eval.questions=32", "--config.eval.votes=2", "--config.eval.pictures_per_batch=4"),
    *("--config.eval.prompts=8", "--config.eval.best_of=2", "--config.eval.best_of_prompts=4"),
    *("--config.eval.prompts_per_batch=4", "--config.eval.steps=2", "--config.eval.seed=3"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Two models of random weights."""
    made = {}
    for seed, name in enumerate("ab"):
        folder = tmp_path_factory.mktemp(name)
        model = random_model(folder, seed)
        made[name] = str(folder / "model")
        export = small_family("bagel-tiny").export
        export(folder / "model", model.backbone, model.base, folder)
    return made


def test_two_models_are_compared(folders, tmp_path, capsys) -> None:
    a, b, out = folders["a"], folders["b"], tmp_path / "new" / "out"
    assert main(["evaluate", f"--model={a}", f"--against={b}", f"--out={out}", *FEW]) == 0
    printed = capsys.readouterr().out
    headings = [line for line in printed.splitlines() if "difference" in line]
    parts = [
        "understanding (32 questions)",
        "generation (8 prompts)",
        "best of several (4 prompts)",
    ]
    assert [re.split(r"  +", heading)[0] for heading in headings] == parts
    for words in (*KINDS, *CATEGORIES, "parsable", "unseen", "held out", "T = 1", "headroom"):
        assert words in printed
    (greedy,) = re.findall(r"^greedy answer +(.*)$", printed, re.MULTILINE)
    number = r"[+-]?\d+\.\d"
    interval = rf"{number} +\[{number}, {number}\]"
    assert re.fullmatch(rf"{interval} +{interval} +{interval}", greedy)

    assert main(["evaluate", f"--model={a}", f"--out={out}", *FEW]) == 2  # nothing is overwritten
    assert "scores.json exists already" in capsys.readouterr().err
    report = json.loads((out / "scores.json").read_text())
    assert report["settings"]["seed"] == 3 and report["settings"]["votes"] == 2
    assert set(report["tables"]) == {a, b, "difference"}
    for name in (a, b):
        scores = Scores.from_json(report["scores"][name])
        assert json.loads(json.dumps(summary(scores))) == report["tables"][name]
        right = scores.parts["understanding"].right
        assert right["vote"].shape == (1, 32) and right["sampled"].shape == (2, 32)
    greedy = report["tables"]["difference"]["understanding"]["greedy"]
    assert len(greedy["all"]) == 3 and {f"kind: {kind}" for kind in KINDS} <= set(greedy)
    assert set(report["headroom"][a]) == {
        "understanding/ensemble",
        "understanding/vote",
        "best of several/best",
    }
    assert np.asarray(Image.open(out / "scores.png")).std() > 10


def test_without_headroom_less_is_measured_and_nothing_written(
    folders, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", f"--model={folders['a']}", "--noheadroom", *FEW]) == 0
    printed = capsys.readouterr().out
    assert "greedy answer" in printed and "one picture" in printed
    for words in ("vote", "best of", "headroom", "difference"):
        assert words not in printed.replace(folders["a"], "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "--model is missing"),
        (["--model=/no/such"], "there is no folder /no/such"),
        (["--model=x", "--against=x"], "the same model"),
        (["--model=x", "--config.eval.sede=1"], "no field 'eval.sede'; did you mean 'seed'?"),
        (["--model=x", "--config.eval.questions=10"], "multiple of config.eval.per_picture"),
        (
            ["--model=x", "--config.eval.seed=-1", "--config.eval.guidance=nan"],
            "config.eval.seed is -1; it must be at least 0 and at most 4294967295. config.eval.gui",
        ),
        (["--model=x", "--config=bagel_tiny_pretrain"], "has no section 'eval'"),
        (["--model=x", "--config=bagel_tinny"], "did you mean 'bagel_tiny'"),
        (["--model=x", "--out=FILE/in"], "choose another folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(words, message, tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    words = [word.replace("FILE", str(tmp_path / "file")) for word in words]
    assert main(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_names_the_flags(capsys) -> None:
    assert main(["evaluate", "--help"]) == 0
    printed = capsys.readouterr().out
    for flag in ("--model", "--against", "--out", "headroom", "--config"):
        assert flag in printed
