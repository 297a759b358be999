"""Prompt files in the formats of GenEval, DPG-Bench and WISE, and the folders of their scorers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.train.main import main
from asg_jax.train.prompt_files import LAYOUTS, batches, read_items

PROMPTS = ("a red circle", "two green squares", "a blue cross")
GENEVAL = [
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}], "prompt": prompt}
    for prompt in PROMPTS
]
WISE = [
    {"Prompt": prompt, "Explanation": "e", "Category": "c", "Subcategory": "s", "prompt_id": n}
    for n, prompt in enumerate(PROMPTS, start=7)
]


@pytest.fixture
def files(tmp_path):
    """A prompt file of every layout; dpg has two forms."""
    (tmp_path / "geneval").write_text("".join(json.dumps(line) + "\n" for line in GENEVAL))
    (tmp_path / "wise").write_text(json.dumps(WISE))
    (tmp_path / "dpg").mkdir()
    rows = ["item_id,text,keywords,proposition_id,question_natural_language"]
    for n, prompt in enumerate(PROMPTS):
        (tmp_path / "dpg" / f"part-{n}.txt").write_text(prompt + "\n")
        rows += [f'part-{n},"{prompt}",k,{q},"Is there one, or two?"' for q in (1, 2)]
    (tmp_path / "dpg.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_prompts_are_read_in_order_with_their_names(files):
    read = lambda name, file: [(i.name, i.prompt) for i in read_items(LAYOUTS[name], files / file)]
    numbered = lambda form: [(form.format(n), prompt) for n, prompt in enumerate(PROMPTS)]
    assert read("geneval", "geneval") == numbered("{:05d}")
    assert read("dpg", "dpg") == read("dpg", "dpg.csv") == numbered("part-{}")
    assert read("wise", "wise") == [(str(n), p) for n, p in enumerate(PROMPTS, start=7)]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("geneval", "{", "is no prompt file"),
        ("geneval", '{"tag": "x"}', "is no prompt file"),
        ("geneval", "[1]", "is no prompt file"),
        ("geneval", "", "holds no prompts"),
        ("geneval", '{"prompt": " "}', "has no prompt for 00000"),
        ("geneval", '{"prompt": 3}', "has no prompt for 00000"),
        ("wise", '{"a": 1}', "is no prompt file"),
        ("wise", '[{"Prompt": "x", "prompt_id": "../x"}]', "names '../x'"),
        ("wise", json.dumps([WISE[0]] * 2), "names '7' twice"),
        ("dpg", "a,b\n1,2\n", "is no prompt file"),
        ("dpg", "item_id,text\n1\n", "has no prompt for 1"),
    ],
)
def test_other_files_are_one_sentence(tmp_path, name, content, line):
    (tmp_path / "file").write_text(content)
    with pytest.raises(UserError, match=line) as error:
        read_items(LAYOUTS[name], tmp_path / "file")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        read_items(LAYOUTS[name], tmp_path / "none")


def test_the_last_batch_is_filled_where_there_are_several():
    assert list(batches([4, 5, 6, 8, 9], 2)) == [[4, 5], [6, 8], [9, 9]]
    assert list(batches([4, 5], 8)) == [[4, 5]]


WORDS = ["generate", "--model=bagel-tiny", "--steps=4", "--guidance=2.5"]


def run(files, layout, out, *more, file=None):
    source = f"--prompts={files / (file or layout)}"
    return main([*WORDS, source, f"--layout={layout}", f"--out={out}", *more])


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def geneval_scorer(folder: Path) -> list[tuple[dict, list[Path]]]:
    """The pictures and metadata that GenEval's evaluate_images.py finds."""
    found = []
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir()):
        assert subfolder.name.isdigit()
        (line,) = (subfolder / "metadata.jsonl").read_text().splitlines()
        names = [p for p in (subfolder / "samples").iterdir() if re.match(r"\d+\.png", p.name)]
        found.append((json.loads(line), sorted(names)))
    return found


def test_geneval_finds_its_pictures_whatever_the_batch_and_after_a_stop(files, capsys):
    out = files / "out"
    assert run(files, "geneval", out, "--count=2", "--batch=2") == 0
    found = geneval_scorer(out)
    assert [line for line, _ in found] == GENEVAL
    assert [[p.name for p in names] for _, names in found] == [["00000.png", "00001.png"]] * 3
    before = {name: (out / name).read_bytes() for name in listing(out)}
    for name in ("00001/metadata.jsonl", "00001/samples/00001.png"):  # as if it was killed there
        (out / name).unlink()
    capsys.readouterr()
    assert run(files, "geneval", out, "--count=2", "--batch=2") == 0
    assert "2 of 3 prompts are drawn already" in capsys.readouterr().out
    assert listing(out) == sorted(before)
    for name in listing(out):
        if name.endswith("jsonl"):
            assert (out / name).read_bytes() == before[name]
        else:  # of another batch: equal up to rounding
            picture = lambda data: np.asarray(Image.open(data), int)
            again = picture(out / name)
            (files / "old.png").write_bytes(before[name])
            assert np.abs(again - picture(files / "old.png")).max() <= 1


def test_dpg_gets_grids_and_wise_single_pictures(files):
    assert run(files, "dpg", files / "a") == 0
    assert run(files, "dpg", files / "b", file="dpg.csv") == 0
    assert listing(files / "a") == ["part-0.png", "part-1.png", "part-2.png"]
    for name in listing(files / "a"):
        assert (files / "a" / name).read_bytes() == (files / "b" / name).read_bytes()
    grid = np.asarray(Image.open(files / "a" / "part-0.png"))
    assert grid.shape == (64, 64, 3) and not np.array_equal(grid[:32, :32], grid[:32, 32:])
    assert run(files, "wise", files / "c") == 0
    assert listing(files / "c") == ["7.png", "8.png", "9.png"]
    assert np.asarray(Image.open(files / "c" / "7.png")).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--layout=wise", "--count=2", "--prompts=wise"], "wise takes 1 pictures"),
        (["--prompts=wise"], "--prompts with --layout"),
        (["--layout=wise"], "--prompts with --layout"),
        (["--layout=wise", "--prompts=wise", "a red circle"], "--prompts with --layout"),
        (["--layout=wise", "--prompts=wise", "--image=x.png"], "--prompts with --layout"),
        (["--layout=wis", "--prompts=wise"], "layout"),
        (["--layout=wise", "--prompts=none"], "none does not exist"),
    ],
)
def test_what_does_not_fit_is_one_line(files, monkeypatch, capsys, words, line):
    monkeypatch.chdir(files)
    assert main([*WORDS, "--out=out", *words]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1 and not (files / "out").exists()
