"""Whole steps: what they depend on, what they leave alone, and that they compile once."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.engine.method import Examples, Report
from asg_jax.engine.state import TrainState
from asg_jax.methods.asg import Asg
from asg_jax.models.registry import Model
from asg_jax.train.benchmarks.compilations import Compilations
from tests.tiny import SETTINGS, B, bits, bits_long, copied, make, pictures, take

IDS = [7, 3, 11]


def run(
    asg: Asg, seed: int = 0, steps: int = 2, order=(0, 1, 2)
) -> tuple[TrainState, list[Report]]:
    """A short run on the same pictures, whose places in the batch stay theirs in any order."""
    state, reports, shown = asg.init(seed), [], pictures()
    request = asg.prepare([shown[n] for n in order])
    for step in range(1, steps + 1):
        examples = Examples(seed, step, tuple(IDS[n] for n in order), tuple(order), request)
        state, later = asg.step(state, examples)
        reports.append(later())
    return state, reports


@pytest.fixture(scope="module")
def cycle(model: Model) -> tuple[TrainState, list[Report], list[int]]:
    """Two cycles of a method that nobody used before, and what each of their steps compiled."""
    asg = make(model)
    state, reports, compiled = asg.init(0), [], []
    for n in range(4):
        with Compilations() as compilations:
            state, report = take(asg, state, n + 1, seed=n, ids=range(B * n, B * n + B))
        reports.append(report)
        compiled.append(compilations.count)
    return state, reports, compiled


def test_after_one_step_of_each_kind_nothing_compiles(cycle) -> None:
    assert cycle[2][0] > 0 and cycle[2][1] > 0
    assert cycle[2][2:] == [0, 0]


def test_steps_follow_the_schedule_and_report_finite_numbers(cycle) -> None:
    state, reports, _ = cycle
    phases = [report.phase for report in reports]
    assert phases == ["understanding", "generation"] * 2
    assert int(state.step) == 4 and int(state.skipped) == 0
    for report in reports:
        assert report.metrics and all(np.isfinite(list(report.metrics.values())))
        assert all(type(value) is float for value in report.metrics.values())
        assert len(report.rows) == B and json.dumps(report.rows)


def test_sampled_log_probs_are_those_of_teacher_forcing(cycle) -> None:
    for report in cycle[1][::2]:
        assert 0 < report.metrics["mismatch/proposer"] < 1e-4
        assert 0 < report.metrics["mismatch/solver"] < 1e-4


@bits
def test_recorded_log_probs_of_bits_are_those_of_teacher_forcing(cycle) -> None:
    for report in cycle[1][1::2]:
        assert 0 < report.metrics["mismatch/generator"] < 1e-4


def test_understanding_moves_two_roles_and_generation_the_third(asg: Asg) -> None:
    start = asg.init(0)
    after, _ = take(asg, copied(start), 1)
    last, _ = take(asg, copied(after), 2)
    same = lambda role, a, b: all(
        np.array_equal(x, y)
        for x, y in zip(jax.tree.leaves(a.roles[role]), jax.tree.leaves(b.roles[role]), strict=True)
    )
    changed = [
        [not same(role, *pair) for role in ("proposer", "solver", "generator")]
        for pair in ((start, after), (after, last))
    ]
    assert changed == [[True, True, False], [False, False, True]]


def test_the_base_is_left_alone(asg: Asg, model) -> None:
    before = jax.tree.map(np.array, model.base)
    run(asg)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, model.base)))


def test_equal_seeds_give_equal_bits_and_others_do_not(asg: Asg) -> None:
    (first, reports), (second, again), (third, _) = run(asg), run(asg), run(asg, seed=1)
    pairs = lambda a, b: zip(jax.tree.leaves(a.roles), jax.tree.leaves(b.roles), strict=True)
    assert all(np.array_equal(x, y) for x, y in pairs(first, second))
    assert [r.metrics for r in reports] == [r.metrics for r in again]
    assert not all(np.array_equal(x, y) for x, y in pairs(first, third))


def test_the_order_of_the_pictures_does_not_matter(asg: Asg) -> None:
    (first, reports), (second, again) = run(asg), run(asg, order=(2, 0, 1))
    for one, other in zip(reports, again, strict=True):
        for name, value in one.metrics.items():
            assert other.metrics[name] == pytest.approx(value, abs=2e-4, rel=1e-3), name
        key = lambda row: row["picture"]
        for row, twin in zip(sorted(one.rows, key=key), sorted(other.rows, key=key), strict=True):
            assert row == pytest.approx(twin, abs=1e-4)
    # Adam divides by the gradient's size, so what is nearly zero may differ more.
    for x, y in zip(jax.tree.leaves(first.roles), jax.tree.leaves(second.roles), strict=True):
        np.testing.assert_allclose(x, y, atol=2e-3)


def test_a_step_sees_pixels_and_numbers_and_nothing_else(asg: Asg) -> None:
    assert list(inspect.signature(asg.prepare).parameters) == ["pictures"]
    assert {field.name for field in fields(Examples)} == {"seed", "step", "ids", "rows", "request"}
    plain, labelled = pictures(), pictures()
    for n, picture in enumerate(labelled):
        picture.info["caption"] = f"a red circle {n}"
    same = jax.tree.map(np.array_equal, asg.prepare(plain), asg.prepare(labelled))
    assert all(jax.tree.leaves(same))


def test_a_picture_that_comes_twice_has_random_numbers_of_its_own(asg: Asg) -> None:
    picture = pictures()[0]
    examples = Examples(0, 1, (4, 4, 4), (0, 1, 2), asg.prepare([picture] * 3))
    evidence, _ = asg.loops["understanding"].gather(asg.init(0), asg.engine.moment(examples))
    ids = np.asarray(evidence.answered.rollout.ids)
    assert np.any(ids[0] != ids[1]) and np.any(ids[1] != ids[2])


def test_the_method_knows_neither_backbones_nor_programs_nor_labels() -> None:
    code = (
        "import sys, asg_jax.methods.asg, asg_jax.prompts\n"
        "bad = ('flax', 'asg_jax.models', 'asg_jax.train', 'asg_jax.configs')\n"
        "print([name for name in sys.modules if name.startswith(bad)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_best_drawing_of_each_prompt_is_kept_if_it_is_good_enough(cycle) -> None:
    reports = cycle[1][1::2]
    for report in reports:
        good = [row["reward"] for row in report.rows if row["reward"] >= SETTINGS.kept_reward]
        assert [kept.reward for kept in report.kept] == pytest.approx(good)
        assert all(kept.pixels.shape == (32, 32, 3) for kept in report.kept)
        assert all(kept.pixels.dtype == np.uint8 for kept in report.kept)
        assert report.pictures
    assert 0 < sum(len(report.kept) for report in reports) < B * len(reports)


@bits_long
@pytest.mark.slow
def test_a_cycle_in_bfloat16_learns(model: Model) -> None:
    """The sampler's log-probs are no longer those of the trainer, and nothing hangs on it."""
    assert model.folder is not None
    backbone, processor = model.family.open(model.folder, "bfloat16")
    base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), model.base)
    asg = make(replace(model, backbone=backbone, processor=processor, base=base))
    state = asg.init(0)
    for step in (1, 2):
        state, report = take(asg, state, step)
        assert all(np.isfinite(list(report.metrics.values())))
        gradients = [v for name, v in report.metrics.items() if name.startswith("gradient/")]
        assert gradients and all(value > 0 for value in gradients)
        gaps = [v for name, v in report.metrics.items() if name.startswith("mismatch/")]
        assert all(0 < gap < 0.5 for gap in gaps)
    assert int(state.skipped) == 0
