"""Methods at one budget: what a step costs, how many it pays for, and one table of the runs."""

import json
from dataclasses import replace

import pytest

from asg_jax import methods
from asg_jax.engine.method import Report, phase_of
from asg_jax.errors import UserError
from asg_jax.train.commands import compare
from asg_jax.train.evolve import comparisons, run
from asg_jax.train.evolve.checks import rises
from asg_jax.train.evolve.comparisons import chosen, price, priced, within
from asg_jax.train.evolve.logs import read_metrics
from tests.train.evolve.fake import CONFIG, PRESET, FakeJudge, FakeMethod, make_parts

CONTROLLED = replace(PRESET, ablations={"shuffled_rewards": {"rate": 0.0}})


class Priced(FakeMethod):
    """Steps of understanding cost 100 token-forwards, others 300."""

    def step(self, state, examples):
        state, later = super().step(state, examples)

        phase = phase_of(examples.step, self.phases).name

        def report() -> Report:
            found = later()
            tokens = 100.0 if phase == "understanding" else 300.0
            costs = {"cost/sampling": tokens / 4, "cost/solver": 3 * tokens / 4}
            return replace(found, metrics={**found.metrics, **costs})

        return state, report


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    """One method with a control, and one without."""
    table = methods.METHODS | {"fake": CONTROLLED, "bare": PRESET}
    monkeypatch.setattr(methods, "METHODS", table)
    monkeypatch.setattr(comparisons, "METHODS", table)
    parts = lambda config: make_parts(Priced(), FakeJudge())
    monkeypatch.setattr(comparisons, "assemble", parts)
    monkeypatch.setattr(run, "assemble", parts)


def test_a_step_costs_the_mean_over_a_cycle(tmp_path, monkeypatch):
    assert price(CONFIG) == pytest.approx((3 * 100 + 2 * 300) / 5)
    assert priced(CONFIG, tmp_path) == 180
    monkeypatch.setattr(comparisons, "price", lambda config: 0.0)  # it is remembered
    assert priced(CONFIG, tmp_path) == 180
    assert priced(replace(CONFIG, batch=replace(CONFIG.batch, generation=4)), tmp_path) == 0


def test_a_budget_pays_for_whole_steps():
    run = within(CONFIG, 1000, 180, control=False)
    assert (run.steps, run.name, run.method) == (5, "fake_3", CONFIG.method)
    control = within(CONFIG, 1000, 180, control=True)
    assert (control.name, control.method.rate) == ("fake_control_3", 0.0)
    with pytest.raises(UserError, match="costs 180 token-forwards; raise --budget"):
        within(CONFIG, 100, 180, control=False)


def test_stages_share_the_steps_that_a_budget_pays_for():
    staged = lambda name: replace(CONFIG, method=methods.preset(name).settings(name=name))
    assert within(staged("silmm"), 7, 1, control=False).method.round == 3  # 3, 3 and 1
    seer = within(staged("seer"), 7, 1, control=True).method
    assert (seer.evaluator_steps, seer.reprompter_steps, seer.shuffled) == (4, 3, True)


def test_a_method_without_a_control_is_not_compared():
    assert chosen(["fake"]) == ["fake"]
    with pytest.raises(UserError, match="'bare' has no control"):
        chosen([])


def test_one_command_makes_the_table(tmp_path):
    file = tmp_path / "fake_run.py"
    file.write_text(
        "from asg_jax.train.evolve.typed import as_config\n"
        "from tests.train.evolve.fake import CONFIG\n"
        "get_config = lambda method: as_config(CONFIG)\n"
    )
    argv = [
        f"--base={file}",
        "--methods=fake",
        "--budget=1000",
        "--seeds=4",
        f"--workdir={tmp_path / 'runs'}",
        f"--out={tmp_path / 'docs' / 'methods'}",
        "--set=eval.questions=48",
        "--set=eval.prompts=12",
    ]
    assert compare.main(argv) == 0
    found = json.loads((tmp_path / "docs" / "methods.json").read_text())["fake"]
    assert (found["seeds"], found["steps"], found["spent"]) == (1, 5, 900)
    assert found["understanding"]["difference"]["value"] == 0  # the judge sees no difference
    line = rises(read_metrics(tmp_path / "runs" / "fake_4"))["solver"]
    value, width = line["rise"], 1.96 * line["error"]
    want = [value - width, value + width]
    assert found["rewards"]["gain"]["solver"] == {"value": value, "ci95": pytest.approx(want)}
    assert found["rewards"]["difference"]["solver"]["value"] == pytest.approx(0)
    table = (tmp_path / "docs" / "methods.md").read_text().splitlines()
    assert table[4].startswith("| fake | 1 | 5 | 9e+02 | ")
    assert f"solver {value:+.3f} (" in table[4]
    assert len({line.count("|") for line in table[2:5]}) == 1
    assert compare.main(argv) == 0  # goes on, and has nothing to do
    with pytest.raises(UserError, match="no field 'eval.quests'; did you mean"):
        compare.main([*argv, "--set=eval.quests=1"])
