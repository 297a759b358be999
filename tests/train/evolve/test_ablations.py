"""Ablations: which settings differ, and runs that are taken up where they were left."""

import json
import os
import signal

import pytest

from asg_jax.errors import UserError
from asg_jax.train.commands import ablate
from asg_jax.train.evolve import run
from asg_jax.train.evolve.ablations import (
    detectable,
    markdown,
    names,
    share_judgement,
    vary,
    verdict,
)
from asg_jax.train.evolve.config import FILE, read
from asg_jax.train.evolve.summary import TITLES
from asg_jax.train.evolve.typed import flat, plain
from asg_jax.train.flags import load_config
from tests.train.evolve.fake import CONFIG, FakeJudge, FakeMethod, make_parts

CHANGES = {
    "full": set(),
    "no_ste": {"method.weights.ste"},
    "slow": {"method.rate"},
    "self_generated_only": {"replay.only"},
    "two_stage": {"method.understanding_steps", "method.generation_steps"},
}


pytestmark = pytest.mark.usefixtures("fake_methods")


@pytest.mark.parametrize("name", CHANGES)
def test_an_ablation_changes_what_it_says(name):
    before, after = (flat(plain(config)) for config in (CONFIG, vary(CONFIG, name, 7)))
    changed = {key for key in before if before[key] != after[key]} - {"name", "seed"}
    assert changed == CHANGES[name] and name in names(CONFIG)
    assert after["seed"] == 7


@pytest.fixture
def file(tmp_path):
    """The fake run as a user's config file."""
    path = tmp_path / "fake_run.py"
    path.write_text(
        "from asg_jax.train.evolve.typed import as_config\n"
        "from tests.train.evolve.fake import CONFIG\n"
        "get_config = lambda: as_config(CONFIG)\n"
    )
    return path


def test_two_stages_have_the_steps_of_the_cycles():
    method = vary(CONFIG, "two_stage", 0).method
    assert (method.understanding_steps, method.generation_steps) == (13, 10)


def test_an_unknown_ablation_is_named():
    with pytest.raises(UserError, match="no ablation 'no_sleep' that .*; known are full, no_ste"):
        vary(CONFIG, "no_sleep", 0)


def test_what_a_config_does_not_have_cannot_be_taken_away():
    without = vary(CONFIG, "no_ste", 0)
    assert "no_ste" in names(CONFIG) and "no_ste" not in names(without)
    with pytest.raises(UserError, match="no ablation 'no_ste' that changes this config"):
        vary(without, "no_ste", 1)


def test_finished_runs_are_not_repeated(file, tmp_path, monkeypatch):
    judge, methods = FakeJudge(), []

    def assemble(config):
        methods.append(FakeMethod(fails=5 if len(methods) == 1 else None))
        return make_parts(methods[-1], judge)

    monkeypatch.setattr(run, "assemble", assemble)
    argv = [
        f"--config={file}",
        "--names=full,no_ste",
        "--seeds=4",
        f"--workdir={tmp_path / 'runs'}",
        f"--out={tmp_path / 'docs' / 'table'}",
        "--config.steps=6",
        "--config.batch.understanding=4",
        "--config.batch.generation=2",
        "--config.eval.questions=48",
        "--config.eval.prompts=12",
    ]
    with pytest.raises(RuntimeError, match="power"):
        ablate.main(argv)
    assert ablate.main(argv) == 0
    assert [len(method.seen) for method in methods] == [6, 4, 2]  # step 4 was saved
    assert judge.steps == [None, 6, 6]  # the frozen model is the same for all
    found = json.loads((tmp_path / "docs" / "table.json").read_text())
    assert found.keys() == {"full", "no_ste"} and found["no_ste"]["seeds"] == 1
    assert found["no_ste"]["understanding"]["difference"]["value"] == 0
    table = (tmp_path / "docs" / "table.md").read_text().splitlines()
    assert len(table) == 8 and table[4].startswith("| full | 1 |")
    assert len({line.count("|") for line in table[2:6]}) == 1
    assert table[5].endswith("| -1.8, -1.0 | undecided, undecided |")
    assert "in points: questions, greedy 0.0," in table[7]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_told_to_the_shell(file, tmp_path, monkeypatch, number):
    class Asking(FakeMethod):
        def step(self, state, examples):
            if int(state.step) == 1:
                os.kill(os.getpid(), number)
            return super().step(state, examples)

    monkeypatch.setattr(run, "assemble", lambda config: make_parts(Asking()))
    argv = [f"--config={file}", f"--workdir={tmp_path / 'runs'}", f"--out={tmp_path / 'table'}"]
    assert ablate.main(argv) == 128 + number
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["full_0"]
    assert not list(tmp_path.glob("table.*"))


def test_two_ablations_in_one_folder_are_kept_apart(file, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "assemble", lambda config: make_parts(FakeMethod(), FakeJudge()))
    argv = [f"--config={file}", f"--workdir={tmp_path}", f"--out={tmp_path / 'table'}"]
    config = vary(read(load_config(str(file)).to_dict()), "full", 0)
    with run.claimed(tmp_path / "full_0", config):
        with pytest.raises(UserError, match="another process .* works in"):
            ablate.main(argv)


def test_seeds_are_numbers(file):
    with pytest.raises(UserError, match="--seeds has 'a'; a seed must be a number."):
        ablate.main([f"--config={file}", "--seeds=1,a"])


def test_a_judgement_of_the_same_model_is_shared_with_its_pictures_or_not_at_all(tmp_path):
    known, new, other = (tmp_path / name for name in ("full_0", "full_1", "other_0"))
    config = {"model": "one", "language": "scenes", "dtype": "", "eval": {"seed": 0}}
    for folder, model in ((known, "one"), (new, "one"), (other, "other")):
        folder.mkdir()
        (folder / FILE).write_text(json.dumps(config | {"model": model}))
    taken = lambda folder: {path.name for path in folder.glob("before.*")}
    (known / "before.json").write_text("{}")
    share_judgement(new, tmp_path)
    assert not taken(new)
    (known / "before.npz").touch()
    share_judgement(other, tmp_path)
    share_judgement(new, tmp_path)
    assert taken(new) == taken(known) and not taken(other)


@pytest.mark.parametrize(
    ("interval", "word"),
    [([-2.0, -0.1], "yes"), ([-2.0, 0.1], "undecided"), ([0.1, 2.0], "no, it gains")],
)
def test_a_loss_is_one_if_its_interval_says_so(interval, word):
    assert verdict({"difference": {"value": sum(interval) / 2, "ci95": interval}}) == word


def test_the_smallest_effect_follows_the_widest_interval():
    own = {m: {"difference": {"ci95": [-w, w]}} for m, w in zip(TITLES, (1.96, 1, 2), strict=True)}
    narrow = {m: {"difference": {"ci95": [0.0, 0.5]}} for m in TITLES}
    (line,) = detectable([own, narrow])
    assert "greedy 2.8, questions, T = 1 1.4, pictures 2.9." in line


def test_without_the_full_method_a_run_is_compared_with_nothing():
    own = {m: {"gain": {"value": 1.0, "ci95": [0.0, 2.0]}} for m in TITLES}
    *_, row = markdown({"no_ste": own | {"seeds": 1}})
    assert row.startswith("| no ste | 1 | +1.0") and row.endswith("| -1.8, -1.0 |  |")
