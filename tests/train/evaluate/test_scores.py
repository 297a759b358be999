"""Scores: kept item by item, saved exactly, compared on the same items only."""

import json

import jax
import numpy as np
import pytest

from asg_jax.backbone import Params
from asg_jax.errors import UserError
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.evaluate import judges
from asg_jax.train.evaluate.judges import evaluate
from asg_jax.train.evaluate.outcomes import ALL, Outcomes
from asg_jax.train.evaluate.scores import (
    BEST_OF,
    GENERATION,
    UNDERSTANDING,
    Scores,
    compare,
    headroom,
    pooled,
    summary,
)
from asg_jax.train.evaluate.settings import EvalSettings

SETTINGS = EvalSettings(
    questions=20,
    per_picture=2,
    votes=3,
    pictures_per_batch=4,
    prompts=10,
    best_of=3,
    best_of_prompts=5,
    prompts_per_batch=4,
    steps=2,
)


def made(rate: float, seed: int = 0, items: int = 400) -> Scores:
    """Scores of a model that is right about a share of the items, always the first ones."""
    right = np.arange(items)[None] < round(rate * items)
    labels = {"kind": tuple("ab"[n % 2] for n in range(items))}
    part = Outcomes(seed, np.arange(items) // 2, labels, {"m": right}, {"m": right | True})
    return Scores({"part": part})


@pytest.fixture(scope="module")
def scores(model):
    params = Params(model.base)
    return evaluate(model, {"solver": params, "generator": params}, SETTINGS)


def same(a: Scores, b: Scores) -> bool:
    return json.dumps(a.to_json()) == json.dumps(b.to_json())


def test_everything_is_measured_and_saved_exactly(scores, tmp_path) -> None:
    measures = {part: set(outcomes.right) for part, outcomes in scores.parts.items()}
    assert measures == {
        UNDERSTANDING: {"greedy", "sampled", "ensemble", "vote"},
        GENERATION: {"drawn"},
        BEST_OF: {"drawn", "best"},
    }
    path = tmp_path / "scores.json"
    scores.save(path)
    again = Scores.load(path)
    assert same(again, scores)
    for part, outcomes in scores.parts.items():
        other = again.parts[part]
        assert other.labels == outcomes.labels and other.seed == outcomes.seed
        np.testing.assert_array_equal(other.clusters, outcomes.clusters)
        for table, own in ((other.right, outcomes.right), (other.clear, outcomes.clear)):
            assert {m: x.dtype for m, x in table.items()} == {m: np.dtype(bool) for m in own}
            jax.tree.map(np.testing.assert_array_equal, dict(table), dict(own))
    assert summary(again) == summary(scores)
    assert set(headroom(scores)) == {
        "understanding/ensemble",
        "understanding/vote",
        "best of several/best",
    }


def test_other_parameters_need_no_other_program(model, scores) -> None:
    doubled = Params(jax.tree.map(lambda x: 2 * x, model.base))
    with Compilations() as compilations:
        evaluate(model, {"solver": doubled, "generator": doubled}, SETTINGS)
    assert compilations.count == 0


def test_each_side_is_judged_with_its_own_role(model, monkeypatch) -> None:
    given = {}

    def judge_answers(model, params, *rest):
        given[UNDERSTANDING] = params, rest
        return made(0.5).parts["part"]

    def judge_pictures(model, params, *rest):
        given[GENERATION] = params, rest
        return made(0.25).parts["part"], None

    monkeypatch.setattr(judges, "judge_understanding", judge_answers)
    monkeypatch.setattr(judges, "judge_generation", judge_pictures)
    roles = {role: Params(role) for role in ("proposer", "solver", "generator")}
    scores = judges.evaluate(model, roles, SETTINGS, headroom=False)
    assert given == {
        UNDERSTANDING: (Params("solver"), (SETTINGS, False)),
        GENERATION: (Params("generator"), (SETTINGS, False)),
    }
    assert scores.headline == {f"{UNDERSTANDING}/m": 50.0, f"{GENERATION}/m": 25.0}
    assert headroom(scores) == {}


def test_a_comparison_is_a_difference_on_equal_items() -> None:
    found = compare(made(0.5), made(0.7))["part"]["m"]
    assert found[ALL].value == pytest.approx(20)
    assert 13 < found[ALL].low < 20 < found[ALL].high < 27
    assert set(found) >= {"kind: a", "kind: b"}
    with pytest.raises(UserError, match="different items"):
        compare(made(0.5), made(0.7, seed=1))
    with pytest.raises(UserError, match="different items"):
        compare(made(0.5), made(0.7, items=300))


def test_runs_are_pooled_and_controls_subtracted() -> None:
    real = [(made(0.5), made(0.6)), (made(0.4), made(0.6))]
    control = [(made(0.5), made(0.55)), (made(0.5), made(0.45)), (made(0.5), made(0.56))]
    assert pooled(real)["part"]["m"][ALL].value == pytest.approx(15)
    less = pooled(real, control)["part"]["m"][ALL]
    assert less.value == pytest.approx(15 - 2) and less.low < 13 < less.high
    assert pooled(real, real)["part"]["m"][ALL] == pytest.approx((0, 0, 0))
    only = pooled(real[:1])
    assert only["part"]["m"][ALL] == compare(*real[0])["part"]["m"][ALL]
    fresh = pooled([(made(0.5, seed=3), made(0.6, seed=3))], control[:1])
    assert fresh["part"]["m"][ALL].value == pytest.approx(5)


def test_headlines_are_points() -> None:
    assert made(0.25).headline == {"part/m": 25.0}


@pytest.mark.parametrize("content", ["", "[]", '{"part": {}}', '{"part": 3}'])
def test_a_file_without_scores_is_refused(tmp_path, content) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(UserError, match="holds no scores"):
        Scores.load(path)
    with pytest.raises(UserError, match="holds no scores"):
        Scores.load(tmp_path / "none.json")
