"""Whether a run fits: the sums, what is said of them, and the command."""

import json

import pytest

from asg_jax.train.ahead.account import lines
from asg_jax.train.ahead.chips import CHIPS, GIB
from asg_jax.train.ahead.fit import Entry, Fit, plain
from asg_jax.train.ahead.programs import ProgramReport
from asg_jax.train.main import main
from tests import goldens

CHIP = CHIPS["v5e"]


def report(name, temporaries, seconds=1.0, error=""):
    return ProgramReport(
        name,
        "v5e:2x2",
        4,
        CHIP.memory,
        5.0,
        arguments=3 * GIB,
        outputs=GIB,
        aliased=GIB // 2,
        temporaries=temporaries,
        code=GIB // 4,
        seconds=seconds,
        error=error,
    )


def found(*entries):
    mesh, cycle = {"data": 1, "fsdp": 4, "tensor": 1}, {"understanding": 3, "generation": 1}
    return Fit("run", "asg", "v5e:2x2", CHIP, mesh, 2 * GIB, GIB, 100, cycle, entries)


LEARN = Entry("understanding", GIB, report("understanding: learn", 2 * GIB, seconds=2.0))
DRAW = Entry("generation", 2 * GIB, report("generation: draw", 4 * GIB))


def test_memory_adds_up():
    fit = found(LEARN, DRAW)
    assert fit.devices == 4 and fit.code == GIB // 2
    # parameters, state, code, what the step holds, new results, temporaries
    assert fit.live(LEARN) == (2 + 1 + 0.5 + 1 + 0.5 + 2) * GIB
    assert fit.peak == fit.live(DRAW) == (2 + 1 + 0.5 + 2 + 0.5 + 4) * GIB
    assert fit.fits and fit.advice == "The run fits."


def test_time_and_price_follow_from_the_utilisation():
    fit = found(LEARN, DRAW)
    assert fit.run_seconds(1.0) == 100 / 4 * (3 * 2 + 1)
    told = plain(fit, 0.5, 3.6)
    assert told["device_hours"] == pytest.approx(4 * 175 / 0.5 / 3600)
    assert told["cost"] == pytest.approx(told["device_hours"] * 3.6)
    printed = "\n".join(lines(fit, told))
    assert "generation: draw" in printed and "fits: The run fits." in printed
    assert "100 steps at 50% of the peak" in printed


def test_what_does_not_fit_is_told_with_what_to_change():
    large = found(LEARN, Entry("generation", 0, report("generation: learn", 12 * GIB)))
    assert not large.fits
    assert large.advice.startswith("generation: learn is the largest: let config.batch.micro be 1")
    refused = found(Entry("generation", 0, report("draw", 0, error="RESOURCE_EXHAUSTED: 20G")))
    assert not refused.fits and "take more devices" in refused.advice
    broken = found(Entry("generation", 0, report("draw", 0, error="INTERNAL: no such thing")))
    assert broken.advice == "draw does not compile: INTERNAL: no such thing"
    assert not found().fits and "Parameters and role state alone take 3.0 GiB" in found().advice


@pytest.mark.usefixtures("tpu_compiler")
def test_a_model_that_one_chip_cannot_hold(tmp_path, capsys):
    out = tmp_path / "fit.json"
    words = ["--config=bagel_7b", "--topology=v5e:1x1", "--config.mesh.fsdp=1", f"--out={out}"]
    assert main(["fit", *words]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("does not fit: Parameters and role state alone take 29.9 GiB of 15.8")
    (told,) = json.loads(out.read_text())
    assert told["fits"] is False and told["base"] > 27 * GIB


@pytest.mark.usefixtures("tpu_compiler")
def test_devices_that_cannot_share_the_batches_are_refused(capsys):
    assert main(["fit", "--config=bagel_7b", "--topology=v5e:2x2"]) == 2
    assert "4 devices cannot be cut into fsdp=16" in capsys.readouterr().err


SMALL = [
    "--config=bagel_tiny",
    "--topology=v5e:2x2",
    "--config.mesh.fsdp=4",
    "--config.batch.understanding=8",
    "--config.batch.generation=8",
    "--config.batch.micro=1",
]
ROOM = 1.1  # by how much a program may grow before somebody should look at it


@pytest.fixture(scope="module")
def small(tpu_compiler, tmp_path_factory):
    """What `asg-jax fit` finds of a small run, as in the golden file."""
    out = tmp_path_factory.mktemp("fit") / "fit.json"
    assert main(["fit", *SMALL, f"--out={out}"]) == 0
    return json.loads(out.read_text())[0]


@pytest.mark.slow
def test_a_small_run_fits(small):
    assert small["advice"] == "The run fits." and small["peak"] < GIB
    assert max(entry["live"] for entry in small["entries"]) == small["peak"]
    assert small["cost"] is None and min(small["step_seconds"].values()) > 0


@pytest.mark.slow
def test_no_program_needs_more_than_it_did(small):
    """Memory and collectives of every program; `asg-jax fit` with `SMALL` wrote the golden file."""
    (before,) = goldens.facts("programs/bagel_tiny.json")
    programs = lambda found: {e["report"]["name"]: e["report"] for e in found["entries"]}
    old, new = programs(before), programs(small)
    assert new.keys() == old.keys() and small["state"] <= before["state"]
    for name, report in new.items():
        for part in ("arguments", "outputs", "temporaries", "code", "flops", "traffic"):
            assert report[part] <= ROOM * old[name][part] + 2**16, (name, part)
        for kind, moved in report["collectives"].items():
            known = old[name]["collectives"].get(kind, {"count": 0, "bytes": 0})
            assert moved["count"] <= ROOM * known["count"], (name, kind)
            assert moved["bytes"] <= ROOM * known["bytes"] + 2**10, (name, kind)
