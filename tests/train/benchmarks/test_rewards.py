"""`asg-jax bench rewards` as a user types it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from asg_jax.signals.table import DRAWINGS
from asg_jax.train.main import main

OWN = '''
import numpy as np
from asg_jax.train.data.captions import holds, parse_caption
from asg_jax.train.evaluate.detector import detect

def exact(texts, pictures):
    """The exact detector."""
    rows = zip(map(parse_caption, texts), pictures)
    return [[not d.unclear and holds(c, d.items) for d in detect(row)] for c, row in rows]

def dice(texts, pictures):
    return np.random.default_rng(0).random(pictures.shape[:2])

def deaf(texts, pictures):
    """Reads the text alone."""
    return np.repeat([[len(t)] for t in texts], pictures.shape[1], axis=1)

def short(texts, pictures):
    return np.zeros(3)

def broken(texts, pictures):
    raise RuntimeError("no luck")

number = 3
'''
# Signals that ask the same of another picture of the text.
ASKING = {"vote_fidelity", "probability_fidelity", "contradiction"}
FEW = ("--prompts=40", "--images=3", "--repeat=1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_signals.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bench(*words: str) -> int:
    return main(["bench", "rewards", *words])


def report(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.mark.slow
def test_planted_signals_are_seen_through(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"own_signals:{name}" for name in ("exact", "dice", "deaf")]
    words = f"--signals={','.join(names)}", *FEW
    assert bench(*words, "--out=one.json", "--html=page.html") == 0
    told = capsys.readouterr().out
    assert all(name in told for name in names) and "renders: 40 texts" in told
    found = report(here / "one.json")["signals"]
    exact, dice, deaf = (found[name] for name in names)
    for name in ("renders", "drawings"):
        assert exact["power"][name]["auc"] == [100, 100, 100]
        low, high = dice["power"][name]["auc"][1:]
        assert low < 50 < high
    assert all(exact["hacks"][fake][0] == 100 for fake in ("blank", "noise", "written"))
    assert exact["hacks"]["shuffled/auc"][0] < 60
    assert deaf["hacks"]["shuffled/same"] == pytest.approx([100] * 3)
    assert deaf["power"]["renders"]["pairs"] == [50, 50, 50]
    assert deaf["power"]["renders"]["flat"] == [100, 100, 100]
    assert deaf["hacks"]["length"][0] > 90
    low, high = dice["hacks"]["yes_rate"][1:]
    assert low < 50 < high
    assert abs(exact["hacks"]["shuffled/same"][0]) < 50

    page = (here / "page.html").read_text()
    assert page.count("<svg") == 3 and not re.search(r'(src|href)="(?!#)', page)
    assert len(page) < 5_000_000 and "<script" not in page

    assert bench(*words, "--out=two.json", "--against=one.json") == 0
    again = report(here / "two.json")
    for name in names:
        assert again["signals"][name]["power"] == found[name]["power"]
        assert again["changes"][name]["renders"]["pairs"] == [0, 0, 0]
    assert "change of own_signals:exact in renders" in capsys.readouterr().out

    before = report(here / "one.json")
    before["signals"][names[1]]["scores"]["renders"] = [[1.0]]
    (here / "torn.json").write_text(json.dumps(before))
    for other, wrong in (("one", "no set of the same texts"), ("torn", "torn.json is damaged")):
        assert bench(*words, "--prompts=39", f"--against={other}.json", "--model=none") == 2
        assert wrong in capsys.readouterr().err  # before the model is missed


@pytest.mark.parametrize(
    "words, told",
    [
        (["--signals=charm"], "there is no signal 'charm'; known are vote_fidelity"),
        (["--signals=nowhere:at_all"], "nowhere:at_all cannot be imported .ModuleNotFoundError"),
        (["--signals=own_signals:none"], "own_signals:none cannot be imported .AttributeError"),
        (["--signals=own_signals:number"], "own_signals:number is no signal; it must be a func"),
        (["--pairs=none.jsonl"], "none.jsonl cannot be read"),
        (["--against=none.json"], "none.json is missing"),
        (["--prompts=1"], "prompts"),
        # before the model is missed:
        (["--model=none", "--pairs=none.jsonl"], "none.jsonl cannot be read"),
        (["--model=none", "--config=bagel_tiny:gvu"], "the method 'gvu' has no signals of given"),
        (["--model=none", "--config.language=latin"], "there is no language 'latin'"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert bench(*words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(told, error), error


@pytest.mark.parametrize("name, told", [("short", r"shape \(2, 2\)"), ("broken", "no luck")])
def test_a_signal_that_fails_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    pairs(here)
    assert bench("--pairs=pairs.jsonl", f"--signals=own_signals:{name}") == 2
    assert re.search(f"own_signals:{name} .*{told}", capsys.readouterr().err)


def pairs(folder: Path) -> None:
    """Two texts with a bright and a dark picture each, and a line that is no good."""
    lines = ["oops"]
    for n, text in enumerate(("a red circle", "a blue square")):
        for label in (0, 1):
            name = f"{n}{label}.png"
            pixels = np.full((40, 30, 3), 40 + 150 * label, np.uint8)
            Image.fromarray(pixels).save(folder / name)
            lines.append(json.dumps({"picture": name, "text": text, "label": label}))
    (folder / "pairs.jsonl").write_text("\n".join(lines))


@pytest.mark.slow
@pytest.mark.long
def test_pairs_of_ones_own_are_scored(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs(here)
    words = "--pairs=pairs.jsonl", "--repeat=1", "--out=own.json"
    assert bench(*words) == 0
    assert "line 1 is no JSON" in caplog.text
    found = report(here / "own.json")
    assert set(found["signals"]) == set(DRAWINGS) - ASKING
    assert found["sets"]["pairs"]["rank"] == [[0, 1], [0, 1]]
    (here / "pairs.jsonl").unlink()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("config", ["bagel_tiny", "vargpt_tiny"])
def test_every_signal_agrees_with_its_plain_form(here: Path, config: str) -> None:
    words = "--prompts=8", "--images=2", "--repeat=1", f"--config={config}"
    assert bench(*words, "--out=all.json") == 0
    found = report(here / "all.json")["signals"]
    for one in found.values():
        assert one["speed"]["difference"] <= 1e-5 and one["speed"]["agrees"]
        assert one["speed"]["ratio"] > 1
        assert one["speed"]["flops"] > 0 and one["speed"]["memory_bytes"] > 0
    sees = found["probability_fidelity"]["power"]["renders"]["pairs"]
    assert sees[0] > 60
