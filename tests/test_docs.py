"""The tables of docs/ follow from the verdicts that lie beside them."""

import json
import tarfile
from itertools import product

import pytest

from asg_jax.train.evolve.ablations import FULL, gather, markdown
from asg_jax.train.evolve.pool import COLUMNS, pool, read_runs
from asg_jax.train.evolve.summary import TITLES
from tests.conftest import ROOT
from tools.kill_campaign import lines

DOCS = ROOT / "docs"
REPORTS = ("evolve.json", "clean.json", "vargpt.json")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of the runs, by name."""
    place = tmp_path_factory.mktemp("runs")
    with tarfile.open(DOCS / "runs.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return {path.parent.name: path.parent for path in place.rglob("summary.json")}


def numbers(statistic):
    """A value and its interval."""
    return [statistic["value"], *statistic["ci95"]]


@pytest.mark.parametrize("report", REPORTS)
def test_the_gains_are_those_of_the_runs(runs, report):
    said = json.loads((DOCS / report).read_text())
    names = said["understanding"]["runs"]
    control = lambda wanted: [runs[n] for n in names if n.startswith("shuffled") is wanted]
    found = pool(read_runs(control(False)), read_runs(control(True)))
    for measure, column in product(TITLES, COLUMNS):
        assert (column in found[measure]) == (column in said[measure])
        if column in found[measure]:
            assert numbers(found[measure][column]) == pytest.approx(numbers(said[measure][column]))


def test_the_ablations_are_those_of_the_runs(runs):
    said = json.loads((DOCS / "ablations.json").read_text())
    seeds = lambda name: range(said[name]["seeds"])
    folders = {name: [runs[f"{name}_{seed}"] for seed in seeds(name)] for name in said}
    found = gather(folders)
    for name, measure in product(said, TITLES):
        for column in ("gain", "difference") if name != FULL else ("gain",):
            want = numbers(said[name][measure][column])
            assert numbers(found[name][measure][column]) == pytest.approx(want)
    table = (DOCS / "ablations.md").read_text()
    assert table == "\n".join(markdown(found)) + "\n"


@pytest.mark.parametrize("report", REPORTS)
def test_the_readme_says_what_they_gain(report):
    said, readme = json.loads((DOCS / report).read_text()), (ROOT / "README.md").read_text()
    for measure in TITLES:
        for column in COLUMNS.keys() & said[measure].keys():
            value, low, high = numbers(said[measure][column])
            text = f"{value:+.1f} [{low:.1f}, {high:.1f}]"
            assert text in readme, f"{measure}, {column}: {text}"


def test_the_kills_are_counted():
    found = json.loads((DOCS / "kills.json").read_text())
    assert found["kills"] == len(found["details"])
    assert "\n".join(lines(found)) in (DOCS / "reliability.md").read_text()
