"""`asg-jax ask`: the answer, the vote over framings, the token entropy."""

import re

import numpy as np
import pytest
from PIL import Image as PIL

from asg_jax.prompts import ENGLISH
from asg_jax.train.main import main
from tests import goldens


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in.png"
    PIL.fromarray(np.arange(28 * 28 * 3, dtype=np.uint8).reshape(28, 28, 3)).save(path)
    return path


def run(picture, *words):
    folder = goldens.folder("bagel/model")
    return main(["ask", f"--model={folder}", f"--image={picture}", "--max_tokens=4", *words])


def test_prints_answer_vote_and_entropy(picture, capsys):
    assert run(picture, "What is shown?") == 0
    first = capsys.readouterr().out
    lines = first.splitlines()
    assert lines[0].startswith("answer")
    votes = [int(n) for n in re.findall(r" (\d+)(?:,|$)", lines[-2])]
    assert sum(votes) == len(ENGLISH.framings)
    entropy = float(lines[-1].split()[1])
    assert 0 < entropy < np.log(264)
    assert run(picture, "What is shown?") == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["why?", "--sede=1"],
        ["why?", "--max_tokens=0"],
        ["why?", "--temperature=nan"],
        ["why?", "--seed=-1"],
        ["what \udcff is it?"],
    ],
)
def test_bad_input_is_one_line_and_status_2(picture, capsys, words):
    assert run(picture, *words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_shipped_model_is_asked_in_its_own_language(picture, capsys):
    """In English its framings are words that it never learned, and the vote is noise."""
    words = ["ask", "--model=bagel-tiny", f"--image={picture}", "is there a red cross?"]
    assert main([*words, "--language=scenes"]) == 0
    told = capsys.readouterr()
    assert main(words) == 0
    assert capsys.readouterr() == told and told.err == ""
    assert main([*words[:-1], "is there a dog?"]) == 0
    assert "never learned 'dog?'" in capsys.readouterr().err
