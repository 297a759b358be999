"""Killed runs end in the bits of one that nobody killed."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict

import pytest

from tests.conftest import ROOT
from tools import kill_campaign
from tools.kill_campaign import AIMS, SIGNALS, Campaign, Kill, lines, plan, summary


def test_a_kill_depends_on_its_numbers_alone():
    plans = [plan(0, run, number) for run in range(80) for number in range(6)]
    assert plans == [plan(0, kill.run, kill.number) for kill in plans]
    assert plans != [plan(1, kill.run, kill.number) for kill in plans]
    for field, wanted in {"signal": SIGNALS, "aim": AIMS, "processes": (1, 2)}.items():
        counts = Counter(getattr(kill, field) for kill in plans)
        assert counts.keys() == set(wanted) and min(counts.values()) > 20
    assert all(kill.victim < kill.processes for kill in plans)


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # where JAX has run before
@pytest.mark.parametrize("aim", ["checkpoint", "replay", "end"])
def test_a_kill_strikes_at_the_file_operation_that_it_aims_at(tmp_path, aim):
    names = {"checkpoint": "checkpoints/2/a", "replay": "replay/1.png", "end": "summary.json"}
    folder, log = tmp_path / "run", tmp_path / "log"
    kill = Kill(0, 0, 1, 0, "SIGKILL", aim, share=0.5, delay=0.0)

    for name in names.values():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)

    def work():
        kill_campaign.watch(folder, kill_campaign.strike(kill, 6, tmp_path / "struck"))
        for n in range(6):
            for name in names.values():
                (folder / f"{name}{n}").write_text("")

    process = kill_campaign.fork(work, log)
    assert os.waitpid(process, 0)[1] == signal.SIGKILL
    assert (tmp_path / "struck").exists()
    written = {name: len(list(folder.glob(f"{of}*"))) for name, of in names.items()}
    assert written[aim] == 2 and max(written.values()) <= 3  # the third is not begun


def test_an_older_checkpoint_may_be_of_another_step():
    whole = {"last step": "8", "8: a": "x", "6: a": "y", "replay 0": "p", "replay 1": "q"}
    other = {"last step": "8", "8: a": "x", "7: a": "z", "replay 1": "q"}
    assert kill_campaign.differences(whole, other) == []
    assert kill_campaign.differences(whole, other | {"replay 1": "r"}) == ["replay 1"]
    assert kill_campaign.differences(whole, other | {"8: a": "y"}) == ["8: a"]
    assert kill_campaign.differences(whole, whole | {"6: a": "z"}) == ["6: a"]
    assert kill_campaign.differences(whole, other | {"summary": "s"}) == ["summary"]


def test_the_report_counts_kills_and_names_what_differs(tmp_path):
    campaign = Campaign(tmp_path, 0)
    for run, faults in enumerate(([], ["metrics"])):
        kill = asdict(plan(0, run, 0)) | {"aim": "moment", "signal": "SIGTERM"}
        campaign.tell("kills", **kill, seconds=2.0)
        campaign.tell("runs", run=run, processes=1, faults=faults)
    found = summary(campaign)
    assert (found["kills"], found["runs"], found["equal"]) == (2, 2, 1)
    assert found["faults"] == {"1": ["metrics"]}
    text = "\n".join(lines(found))
    assert "| any moment | 0 | 2 | 0 |" in text and '{"1": ["metrics"]}' in text


@pytest.mark.slow
@pytest.mark.long
def test_twelve_kills_change_no_bit(tmp_path):
    words = [f"--folder={tmp_path}", "--kills=12", "--seed=1"]
    process = [sys.executable, "-m", "tools.kill_campaign", *words]
    done = subprocess.run(process, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kills = [json.loads(line) for line in (tmp_path / "kills.jsonl").read_text().splitlines()]
    assert len(kills) == 12 and {kill["processes"] for kill in kills} == {1, 2}
