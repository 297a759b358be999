"""The tables of docs/ follow from the verdicts that lie beside them."""

import ast
import json
import re
import tarfile
from itertools import product

import numpy as np
import pytest

from asg_jax.train.benchmarks import choosing
from asg_jax.train.evolve.ablations import FULL, gather, markdown
from asg_jax.train.evolve.comparisons import compared
from asg_jax.train.evolve.comparisons import markdown as comparison
from asg_jax.train.evolve.pool import COLUMNS, lines, pool, read_runs, text
from asg_jax.train.evolve.summary import MEASURES, TITLES
from tests.conftest import ROOT
from tools.kill_campaign import lines as kill_lines

DOCS = ROOT / "docs"
# Where the runs of a report lie in the archive; those of the ablations are of older code.
REPORTS = {
    "evolve.json": "seeds",
    "clean.json": "clean",
    "vargpt.json": "seeds",
    "blip3o.json": "seeds",
}
# And where the runs of a comparison lie.
COMPARED = {
    "methods": "methods/bagel_tiny",
    "methods_seeds": "methods/bagel_tiny",
    "methods_vargpt": "methods/vargpt_tiny",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of the runs, by group and name."""
    place = tmp_path_factory.mktemp("runs")
    with tarfile.open(DOCS / "runs.tar.xz") as archive:
        archive.extractall(place, filter="data")
    folders = [path.parent for path in place.rglob("summary.json")]
    return {str(folder.relative_to(place)): folder for folder in folders}


def numbers(statistic):
    """A value and its interval."""
    return [statistic["value"], *statistic["ci95"]]


@pytest.mark.parametrize("report", REPORTS)
def test_the_gains_are_those_of_the_runs(runs, report):
    said = json.loads((DOCS / report).read_text())
    names = said["understanding"]["runs"]
    folder = lambda name: runs[f"{REPORTS[report]}/{name}"]
    control = lambda wanted: [folder(n) for n in names if n.startswith("shuffled") is wanted]
    found = pool(read_runs(control(False)), read_runs(control(True)))
    for measure, column in product(TITLES, COLUMNS):
        assert (column in found[measure]) == (column in said[measure])
        if column in found[measure]:
            assert numbers(found[measure][column]) == pytest.approx(numbers(said[measure][column]))


@pytest.mark.parametrize("group", ["ablations", "trials"])
def test_the_ablations_are_those_of_the_runs(runs, group):
    said = json.loads((DOCS / f"{group}.json").read_text())
    seeds = lambda name: range(said[name]["seeds"])
    folders = {name: [runs[f"{group}/{name}_{seed}"] for seed in seeds(name)] for name in said}
    found = gather(folders)
    for name, measure in product(said, TITLES):
        for column in ("gain", "difference") if name != FULL else ("gain",):
            want = numbers(said[name][measure][column])
            assert numbers(found[name][measure][column]) == pytest.approx(want)
    table = (DOCS / f"{group}.md").read_text()
    assert table == "\n".join(markdown(found)) + "\n"


@pytest.mark.parametrize("name", COMPARED)
def test_the_methods_are_compared_as_their_runs_say(runs, name):
    said, place = json.loads((DOCS / f"{name}.json").read_text()), COMPARED[name]
    folders = lambda kind: {
        method: [runs[f"{place}/{method}{kind}_{seed}"] for seed in range(own["seeds"])]
        for method, own in said.items()
    }
    prices = {method: own["spent"] / own["steps"] for method, own in said.items()}
    found = compared(folders(""), folders("_control"), prices)
    for method, measure in product(said, TITLES):
        for column in ("gain", "control", "difference"):
            want = numbers(said[method][measure][column])
            assert numbers(found[method][measure][column]) == pytest.approx(want)
        for column, roles in said[method]["rewards"].items():
            for role, own in roles.items():
                assert numbers(found[method]["rewards"][column][role]) == pytest.approx(
                    numbers(own)
                )
    assert (DOCS / f"{name}.md").read_text() == "\n".join(comparison(found)) + "\n"


@pytest.mark.parametrize(
    ("place", "named", "setting", "count"),
    [
        ("methods/vargpt_tiny/unguided", "runs/methods_vargpt", ("guidance", 1), 6),
        ("seeds/other_prompts", "runs/seeds", ("seed", 1), 4),
    ],
)
def test_the_results_show_what_else_was_judged(runs, place, named, setting, count):
    folder = runs["seeds/full_0"].parents[1] / place
    results = (DOCS / "results.md").read_text()
    for path in folder.iterdir():
        said = json.loads(path.read_text())
        assert said["settings"][setting[0]] == setting[1]
        run, difference = (
            said["tables"][name]["generation"]["drawn"]["all"]
            for name in (f"{named}/{path.stem}", "difference")
        )
        gain = text({"value": difference[0], "ci95": difference[1:]})
        assert f"| `{path.stem}` | {run[0]:.1f} | {gain} |" in results
    assert len(list(folder.iterdir())) == count


def test_the_results_show_what_drawing_alone_gains(runs):
    results = (DOCS / "results.md").read_text()
    folders = [folder for name, folder in runs.items() if name.startswith("drawing/")]
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        summary = json.loads((folder / "summary.json").read_text())
        generator, found = config["method"]["generator"], summary["generation"]
        cells = (
            str(config["steps"]),
            f"{generator['objective']['nft']['decay']:g}".removeprefix("0"),
            f"{generator['learning_rate']:.1e}".replace(".0e", "e").replace("e-0", "e-"),
            f"{summary['checks']['kl/generator']['last']:.3f}".removeprefix("0"),
            text({"value": found["delta"], "ci95": found["ci95"]}),
        )
        assert f"| {' | '.join(cells)} |" in results
    assert len(folders) == 4


def test_the_results_show_that_the_clean_model_loses_nothing(runs):
    summary = json.loads((runs["clean/frozen_judge_0"] / "summary.json").read_text())
    greedy, sampled, drawn = (
        text({"value": summary[measure]["delta"], "ci95": summary[measure]["ci95"]})
        for measure in TITLES
    )
    said = " ".join((DOCS / "results.md").read_text().split())
    assert f"gained {greedy} greedy, {sampled} at T = 1 and {drawn} in pictures" in said


@pytest.mark.parametrize("name", ["choosing.json", "choosing_vargpt.json"])
def test_the_results_show_what_choosing_gains(name):
    table = "\n".join(choosing.lines(json.loads((DOCS / name).read_text())))
    assert f"```\n{table}\n```" in (DOCS / "results.md").read_text()


@pytest.mark.parametrize("report", REPORTS)
def test_the_results_show_their_report(report):
    table = "\n".join(lines(json.loads((DOCS / report).read_text())))
    assert f"```\n{table}\n```" in (DOCS / "results.md").read_text()


def test_the_readme_sums_up_its_runs(runs):
    said, readme = json.loads((DOCS / "evolve.json").read_text()), (ROOT / "README.md").read_text()
    pairs = read_runs([runs[f"seeds/full_{seed}"] for seed in range(3)]).values()
    for measure, (part, name, _) in MEASURES.items():
        before, after = np.mean([[one.points(part, name) for one in pair] for pair in pairs], 0)
        gain, control = (text(said[measure][column]) for column in ("gain", "control"))
        assert f" | {before:.1f} | {after:.1f} | {gain} | {control} |" in readme, measure


ARCHITECTURE = (DOCS / "architecture.md").read_text()
CELLS = [cell for line in ARCHITECTURE.splitlines() for cell in line.split(" | ")]
SHAPED = re.compile(r"((?:`\w+\.\w+`(?:, | and )?)+) \(([^)]*)\)")


def test_the_architecture_names_what_is_there():
    places = 0
    for path, names in re.findall(r"`([a-z_/0-9]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", ARCHITECTURE):
        if "/" not in path or path.startswith("engine/"):
            continue  # short for a file that the text has named in full
        code = (ROOT / path).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"(def|class) {name}\b", code), f"{path}: {name}"
            places += 1
    assert places > 30


def test_the_arrays_have_the_shapes_that_the_architecture_says():
    """As the fields' annotations have them."""
    shapes: dict[str, set[str]] = {}
    for path in (ROOT / "asg_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    text = re.search(r"Array, ['\"] ?([^'\"]*)['\"]", ast.unparse(field.annotation))
                    if text:
                        shapes.setdefault(f"{node.name}.{field.target.id}", set()).add(text[1])
    found = [pair for cell in CELLS for pair in SHAPED.findall(cell)]
    assert len(found) >= 20
    for names, shape in found:
        for name in re.findall(r"`(\w+\.\w+)`", names):
            assert shape.replace(",", "") in shapes[name], f"{name}: {shape} or {shapes[name]}"


def test_the_kills_are_counted():
    found = json.loads((DOCS / "kills.json").read_text())
    assert found["kills"] == len(found["details"])
    assert "\n".join(kill_lines(found)) in (DOCS / "reliability.md").read_text()
