"""The page of a run: everything in one file, nothing from elsewhere, readable in a browser."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from asg_jax import methods
from asg_jax.errors import UserError
from asg_jax.train.evolve import run
from asg_jax.train.evolve.files import read_json
from asg_jax.train.evolve.page import POINTS, curves, render
from asg_jax.train.evolve.signs import conclusion, verdicts
from asg_jax.train.main import main
from tests.train.evolve.fake import CONFIG, PRESET, FakeJudge, FakeMethod, make_parts

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
VOID = {"meta", "img", "br", "path", "use", "rect", "image"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of the method without a model."""
    folder = tmp_path_factory.mktemp("page") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "METHODS", {"fake": PRESET})
        patch.setattr(run, "assemble", lambda config: make_parts(FakeMethod(), FakeJudge()))
        assert run.finish(replace(CONFIG, name="<b>fake & run</b>"), folder) == 0
        yield folder


class Page(HTMLParser):
    """Reads a page and keeps what it is made of; every tag must be closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def page(folder):
    return Page(render(folder))


def test_the_page_tells_scores_checks_samples_and_settings(folder, page):
    words = " ".join(page.words.split())
    assert "<b>fake & run</b>: none, evolved" in words
    assert (
        "questions, greedy, points of 100" in words and "the exact judge confirms a gain" in words
    )
    assert "what | is it?" in words and "step 1, understanding" in words
    assert "config.replay.size" in words and "pictures that are kept; the oldest go." in words
    assert "jax " in words
    assert conclusion(verdicts(read_json(folder / "summary.json"))) in words
    assert "rewards, generation" in words  # text of the curves


def test_nothing_comes_from_elsewhere(page):
    assert "script" not in {tag for tag, _, _ in page.attributes}
    links = [value for _, name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert links and all(link.startswith(("data:", "#")) for link in links)


def test_drawings_stand_side_by_side_with_their_verdict(page):
    shown = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    first = np.asarray(Image.open(BytesIO(base64.b64decode(shown[0].partition(",")[2]))))
    assert len(shown) == 48 and first.shape == (32, 32, 3)


def test_the_page_is_the_same_every_time_and_small(folder):
    assert render(folder) == render(folder)
    assert len(render(folder).encode()) < 5e6


def test_long_curves_are_thinned():
    line = lambda step: {"step": step, "phase": "p", "reward/solver": step, "loss/x": 1.0}
    text = curves([line(step) for step in range(1, 10 * POINTS + 1)])
    assert len(text) < 60_000 and "rewards, p" in text and "loss" not in text
    assert "kept no metrics" in curves([])


def test_a_run_without_judge_and_samples_has_a_page(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "run")
    for name in ("before.npz", "after.npz", "samples.jsonl", "metrics.jsonl"):
        (bare / name).unlink()
    found = json.loads((bare / "summary.json").read_text())
    for name in ("understanding", "sampled", "generation", "versions"):
        del found[name]
    (bare / "summary.json").write_text(json.dumps(found))
    words = Page(render(bare)).words
    for told in (
        "no scores",
        "no pictures",
        "no questions and answers",
        "no metrics",
        "no versions",
    ):
        assert told in words


def test_the_command_writes_a_new_file_of_one_finished_run(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(folder), f"--html={out}"]) == 0
    assert out.read_text() == render(folder)
    capsys.readouterr()
    for words, line in (
        ([str(folder), f"--html={out}"], "exists already"),
        ([str(folder), str(folder), "--html=x.html"], "a page shows one run"),
        ([str(tmp_path), f"--html={tmp_path / 'x.html'}"], "holds no finished run"),
    ):
        assert main(["report", *words]) == 2
        assert line in capsys.readouterr().err
    (tmp_path / "broken").mkdir()
    with pytest.raises(UserError, match="summary.json is damaged"):
        (tmp_path / "broken" / "summary.json").write_text("{")
        render(tmp_path / "broken")


@pytest.mark.skipif(BROWSER is None, reason="needs chromium: apt-get install chromium")
@pytest.mark.slow
def test_a_browser_shows_it_without_a_network(folder, tmp_path):
    (tmp_path / "page.html").write_text(render(folder))
    command = [
        str(BROWSER),
        *("--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *("--window-size=1100,3000", f"--user-data-dir={tmp_path / 'profile'}"),
        *(f"--screenshot={tmp_path / 'page.png'}", (tmp_path / "page.html").as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert done.returncode == 0 and not re.search(r"CONSOLE.*(error|refused)", done.stderr, re.I)
    rows = np.flatnonzero((pixels < 128).any(axis=(1, 2)))
    assert (rows < 1000).sum() > 100 and rows.max() > 1000  # text and curves, not a blank page
