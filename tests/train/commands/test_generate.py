"""`asg-jax generate`: pictures of a prompt and edits, one clear line for bad input."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from absl import flags
from PIL import Image as PIL

from asg_jax.backbone import Spec
from asg_jax.errors import UserError
from asg_jax.train.commands.generate import define
from asg_jax.train.drawing import GIVEN, make_sampler
from asg_jax.train.main import main
from asg_jax.train.verifying import VERIFIERS
from tests import goldens


@pytest.fixture
def folder():
    return str(goldens.folder("bagel/model"))


def run(folder, *words):
    return main(["generate", f"--model={folder}", "--steps=2", "--count=2", *words])


def pictures(out):
    return [np.asarray(PIL.open(path)) for path in sorted(out.glob("*.png"))]


def test_draws_the_same_pictures_for_the_same_seed(folder, tmp_path, capsys):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ["a red kite", f"--out={tmp_path / name}", f"--seed={seed}"]
        assert run(folder, *words, "--height=32", "--width=48") == 0
    a, b, c = (pictures(tmp_path / name) for name in "abc")
    assert [p.shape for p in a] == [(32, 48, 3)] * 2
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert not np.array_equal(a[0], a[1])
    assert "wrote 2 pictures" in capsys.readouterr().out


TINY = ["--language=scenes", "a red circle"]


def test_the_best_of_several_are_among_all(tmp_path, capsys):
    assert run("bagel-tiny", *TINY, f"--out={tmp_path / 'all'}", "--count=4") == 0
    capsys.readouterr()
    assert run("bagel-tiny", *TINY, f"--out={tmp_path / 'best'}", "--best-of=2") == 0
    assert "8 network evaluations of 8 without pruning, 4 verdicts" in capsys.readouterr().out
    every, best = pictures(tmp_path / "all"), pictures(tmp_path / "best")
    assert len(best) == 2 and all(any(np.array_equal(a, b) for b in every) for a in best)


@pytest.mark.slow
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_every_verifier_scores(tmp_path, capsys, verifier):
    words = ["--count=1", "--best-of=2", f"--verifier={verifier}", f"--out={tmp_path}"]
    assert run("bagel-tiny", *TINY, *words) == 0
    assert re.search(r"scores -?\d", capsys.readouterr().out)


def test_a_search_prunes_and_says_what_it_took(tmp_path, capsys):
    words = [*TINY, f"--out={tmp_path}", "--count=1", "--search=hierarchical"]
    assert run("bagel-tiny", *words, "--steps=4", "--best-of=4") == 0
    said = capsys.readouterr().out
    found = re.match(r"(\d+) network evaluations of (\d+) without", said)
    assert found is not None
    spent, whole = found.groups()
    assert int(spent) < int(whole) == 16 and len(pictures(tmp_path)) == 1
    assert run("bagel-tiny", *words) == 2
    assert "set --best-of to 2 or more" in capsys.readouterr().err


def test_earlier_pictures_stay(folder, tmp_path, capsys):
    words = ["a red kite", f"--out={tmp_path}", "--height=32", "--width=48"]
    assert run(folder, *words) == 0
    before = pictures(tmp_path)
    assert run(folder, *words, "--seed=1") == 0
    assert "0002.png to 0003.png" in capsys.readouterr().out
    np.testing.assert_array_equal(pictures(tmp_path)[:2], before)
    assert len(pictures(tmp_path)) == 4


def test_edits_keep_the_size_of_the_picture(folder, tmp_path):
    PIL.fromarray(np.full((64, 32, 3), 200, np.uint8)).save(tmp_path / "in.png")
    words = ["make it green", f"--image={tmp_path / 'in.png'}", f"--out={tmp_path / 'out'}"]
    assert run(folder, *words) == 0
    assert [p.shape for p in pictures(tmp_path / "out")] == [(64, 32, 3)] * 2


BAD = {
    "unknown flag": (["x", "--out=o", "--sede=1"], "sede"),
    "bad value": (["x", "--out=o", "--seed=one"], "seed"),
    "no prompt": (["--out=o"], "expected 1 words"),
    "no out": (["x"], "--out is missing"),
    "bad size": (["x", "--out=o", "--height=50"], "multiples of"),
    "too large": (["x", "--out=o", "--height=6400"], "at most"),
    "no height": (["x", "--out=o", "--height=0"], "flag --height=0: it must be at least 1"),
    "infinite": (["x", "--out=o", "--guidance=inf"], "flag --guidance=inf: it must be"),
    "no number": (["x", "--out=o", "--image_guidance=nan"], "flag --image_guidance=nan: it must"),
    "long seed": (["x", "--out=o", "--seed=99999999999999999999"], "at most 4294967295"),
    "negative": (["x", "--out=o", "--seed=-1", "--count=0"], "--seed=-1: it must be at least 0"),
    "a file": (["x", "--out=file/o"], "file/o takes no files (File exists)"),
    "the file": (["x", "--out=file"], "file takes no files (File exists)"),
    "long name": (["x", "--out=" + 300 * "o"], "takes no files (File name too long)"),
    "no such picture": (["x", "--out=o", "--image=none.png"], "none.png does not exist"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(folder, tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    words, message = BAD[case]
    (tmp_path / "file").touch()
    assert run(folder, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_text_file_is_no_picture(folder, tmp_path, capsys):
    (tmp_path / "note.png").write_text("not a picture")
    words = ["x", f"--out={tmp_path / 'o'}", f"--image={tmp_path / 'note.png'}"]
    assert run(folder, *words) == 2
    assert "no readable picture" in capsys.readouterr().err


def sampler_of(kind, *words):
    """The sampler of a request to a model of that kind, without a picture to edit."""
    spec = Spec(kind, 4, kind == "bits", 4, 16, (8, 8), 1, 9)
    if kind == "bits":
        spec = replace(spec, grids=((8, 8), (4, 16)))
    values = define()
    values(["asg-jax", "--model=m", "--out=o", *words])
    request: Any = SimpleNamespace(sources=None)
    return make_sampler(spec, request, {name: values[name].value for name in GIVEN})


def test_defaults_are_those_of_the_official_samplers():
    flow, bits = sampler_of("flow"), sampler_of("bits")
    assert (flow.grid, flow.steps, flow.guidance, flow.image_guidance) == ((8, 8), 4, 4.0, 1.0)
    assert (bits.grid, bits.guidance, bits.temperature, bits.top_p) == ((8, 8), 3.0, 0.5, 0.97)
    own = sampler_of("bits", "--temperature=1", "--top_p=1", "--height=16", "--width=64")
    assert (own.grid, own.temperature, own.top_p) == ((4, 16), 1.0, 1.0)


MISFITS = {
    ("flow", "--temperature=1"): "--temperature is no option of this model; it has --steps, ",
    ("bits", "--steps=9"): "--steps is no option of this model; it has --guidance, ",
    ("bits", "--temperature=0"): "flag --temperature=0.0: it must be above 0",
    ("bits", "--top_p=1.5"): "flag --top_p=1.5: it must be above 0 and at most 1",
    ("bits", "--height=16"): "16 x 32 pixels cannot be drawn; sizes are 32 x 32, 16 x 64",
    ("flow", "--height=36"): "at most 32 x 32",
}


@pytest.mark.parametrize(("kind", "word"), MISFITS)
def test_options_that_do_not_fit_are_refused(kind, word):
    with pytest.raises((UserError, flags.Error), match=re.escape(MISFITS[kind, word])):
        sampler_of(kind, word)


def test_help_names_the_flags(capsys):
    assert main(["generate", "--help"]) == 0
    assert "--guidance" in capsys.readouterr().out
