"""The benches of whole steps, on a tiny model."""

import json

import pytest

from asg_jax.train.main import main

pytestmark = pytest.mark.slow
SMALL = [
    "--config=bagel_tiny",
    "--config.batch.understanding=8",
    "--config.batch.generation=8",
    "--config.remat=full",
    "--config.method.images=2",
    "--config.method.candidates=2",
    "--config.method.framings=3",
    "--config.method.sampler.steps=3",
    "--repeat=1",
    "--peak=1",
]


def bench(name, tmp_path):
    out = tmp_path / f"{name}.json"
    assert not main(["bench", name, *SMALL, f"--out={out}"])
    return json.loads(out.read_text())


@pytest.mark.long
def test_an_update_does_more_than_is_useful_where_it_recomputes(tmp_path, capsys):
    report = bench("update", tmp_path)
    assert [update["phase"] for update in report["updates"]] == ["understanding", "generation"]
    for update in report["updates"]:
        assert 0 < update["useful_flops"] < update["done_flops"] < 3 * update["useful_flops"]
        share = update["useful_flops"] / update["seconds"] / 1e12
        assert update["share_of_peak"] == pytest.approx(share)
    assert capsys.readouterr().out.count("of the peak useful") == 2


def test_a_cycle_is_the_sum_of_its_programs(tmp_path, capsys):
    report = bench("cycle", tmp_path)
    names = [(one["phase"], one["name"].split()[0]) for one in report["programs"]]
    assert names.count(("understanding", "continue_texts")) == 2 and names[-1][1] == "learn"
    done = sum(one["steps"] * one["done_flops"] for one in report["programs"])
    assert report["done_flops"] == pytest.approx(done) and 0 < report["useful_share"] < 1
    assert report["useful_share"] + sum(report["wastes"].values()) == pytest.approx(1)
    # the judge describes the picture and answers about it with the same factors
    assert report["wastes"]["again"] > 0 and report["wastes"]["padding"] > 0
    assert "encodes a picture about 40 times" in capsys.readouterr().out
