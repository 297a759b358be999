"""lmms-eval asks our models: a local task in its own format, against our own judge.

lmms-eval lives in an environment of its own (extra `lmms`); without it, only what is refused is
tested.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from asg_jax.answers import normalize_answer
from asg_jax.models.pictures import to_picture
from asg_jax.prompts import SCENES
from asg_jax.train.evaluate import lmms
from asg_jax.train.evaluate.questions import question_set
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evaluate.understanding import GREEDY, judge_understanding
from asg_jax.train.main import main
from asg_jax.train.opened import open_model

HERE = importlib.util.find_spec("lmms_eval") is not None
needs_lmms = pytest.mark.skipif(not HERE, reason="lmms-eval is not installed: extra `lmms`")
COUNT, OPTIONS = 20, ["red", "green", "blue", "yellow", "yes", "no", "circle", "square", "1", "2"]
TASK = """
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
test_split: test
doc_to_visual: !function utils.show
doc_to_text: question
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
metadata:
  - version: 0.0
"""
SPOKEN = """
task: scenes_spoken
output_type: generate_until
doc_to_target: answer
process_results: !function utils.right
generation_kwargs: {max_new_tokens: 8, do_sample: false}
"""
CHOSEN = """
task: scenes_chosen
output_type: multiple_choice
doc_to_target: answer
doc_to_choice: !function utils.options
process_results: !function utils.cheapest
"""
TWO = """
task: scenes_two
output_type: generate_until
doc_to_target: answer
process_results: !function utils.right
generation_kwargs: {max_new_tokens: 8, until: ["r", "."]}
"""
UTILS = """
from PIL import Image

OPTIONS = {options}


def show(doc):
    return [Image.open(name) for name in doc["pictures"]]


def right(doc, results):
    return {{"right": float(results[0].strip().lower() == doc["answer"])}}


def options(doc):
    return OPTIONS


def cheapest(doc, results):
    costs = [cost for cost, _ in results]
    return {{"right": float(OPTIONS[costs.index(min(costs))] == doc["answer"])}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks of twenty questions, those that our own judge asks, in lmms-eval's format."""
    place = tmp_path_factory.mktemp("tasks")
    asked = question_set(0, COUNT)
    for n, pixels in enumerate(asked.pictures):
        to_picture(pixels).save(place / f"{n}.png")
    for name, task, shown in (("spoken", SPOKEN, 1), ("chosen", CHOSEN, 1), ("two", TWO, 2)):
        rows = [
            {
                "question": SCENES.frame(str(item.question))[0],
                "answer": item.truth,
                "pictures": [str(place / f"{item.picture}.png")] * shown,
            }
            for item in asked.items
        ]
        file = place / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (place / f"{name}.yaml").write_text(TASK.format(file=file) + task)
    (place / "utils.py").write_text(UTILS.format(options=OPTIONS))
    return place


def run(folder: Path, tasks: str, *more: str) -> dict[str, Any]:
    """What the command writes, run as a user does."""
    out = folder / f"out {tasks} {len(more)}"
    words = ["--model=bagel-tiny", f"--tasks={tasks}", f"--task_folder={folder}", f"--out={out}"]
    command = "import sys; from asg_jax.train.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", command, "evaluate", *words, *more], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "|scenes_" in done.stdout
    return json.loads((out / "tasks.json").read_text())


@needs_lmms
@pytest.mark.slow
def test_a_local_task_has_the_score_of_our_judge(folder: Path) -> None:
    found = run(folder, "scenes_spoken,scenes_chosen")
    model = open_model("bagel-tiny")
    settings = EvalSettings(questions=COUNT, votes=1)
    ours = judge_understanding(model, model.roles["solver"], settings, False).right[GREEDY][0]
    theirs = [row["filtered_resps"][0] for row in found["samples"]["scenes_spoken"]]
    items = question_set(0, COUNT).items
    right = [normalize_answer(x) == item.truth for x, item in zip(theirs, items, strict=True)]
    assert right == ours.tolist() and 0 < sum(right) < COUNT
    assert found["results"]["scenes_spoken"]["right,none"] == pytest.approx(ours.mean())

    def chosen(item: Any) -> str:
        picture = folder / f"{item.picture}.png"
        question = SCENES.frame(str(item.question))[0]
        costs = -np.array(model.score(picture, question, OPTIONS)) / 2  # a word, and the end
        return OPTIONS[int(costs.argmin())]

    share = np.mean([chosen(item) == item.truth for item in items])
    assert found["results"]["scenes_chosen"]["right,none"] == pytest.approx(share)
    assert found["n-samples"]["scenes_spoken"]["effective"] == COUNT


@needs_lmms
@pytest.mark.slow
def test_several_pictures_stand_before_a_question_and_stops_end_an_answer(folder: Path) -> None:
    found = run(folder, "scenes_two", "--limit=4")
    answers = [row["filtered_resps"][0] for row in found["samples"]["scenes_two"]]
    assert len(answers) == 4 and not any("r" in answer for answer in answers)


@needs_lmms
@pytest.mark.slow
def test_questions_that_cannot_be_had_are_one_line(tmp_path: Path) -> None:
    words = ["evaluate", "--model=bagel-tiny", "--tasks=realworldqa"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = "import sys; from asg_jax.train.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", command, *words], capture_output=True, text=True, env=environment
    )
    told = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and "the questions of realworldqa cannot be had (" in told


class Request:
    def __init__(self, *args: Any):
        self.args = args


def test_the_examinee_answers_without_the_tool(folder: Path) -> None:
    """The class itself needs nothing of lmms-eval."""
    examinee = lmms.Examinee(open_model("bagel-tiny"))
    doc = {"pictures": [Image.open(folder / "0.png")]}
    examinee.task_dict = {"t": {"test": [doc, {"pictures": []}, {"pictures": ["a.mp4"]}]}}
    question = SCENES.frame(str(question_set(0, COUNT).items[0].question))[0]
    show = lambda doc: doc["pictures"]
    (said,) = examinee.generate_until([Request(question, {}, show, 0, "t", "test")])
    (cut,) = examinee.generate_until([Request(question, {"until": said[1]}, show, 0, "t", "test")])
    assert said and cut == said[0]
    requests = [Request(question, f" {word}", show, 0, "t", "test") for word in (said, "what")]
    (cost, greedy), (other, not_greedy) = examinee.loglikelihood(requests)
    assert 0 <= cost < other and greedy and not not_greedy
    for number, line in ((1, "compares answers about 0 pictures"), (2, "more than pictures")):
        with pytest.raises(lmms.UserError, match=line):
            examinee.loglikelihood([Request(question, "red", show, number, "t", "test")])
    with pytest.raises(lmms.UserError, match="t goes over several rounds"):
        examinee.generate_until_multi_round([Request(question, {}, show, None, "t", "test")])


def test_what_cannot_be_run_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--model=bagel-tiny", "--tasks=scenes_speken"]
    assert main(words) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert ("no task 'scenes_speken'" if HERE else "pip install 'asg-jax[lmms]'") in told
    assert main([*words, "--against=bagel-tiny-clean"]) == 2
    assert "leave out --against" in capsys.readouterr().err
