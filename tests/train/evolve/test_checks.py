"""Checks against tricks: first against last steps, and drawn against asked."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import linregress

from asg_jax.train.data.captions import Caption, Group
from asg_jax.train.data.phrases import Pick
from asg_jax.train.data.scenes import Item, Scene, render
from asg_jax.train.evaluate.prompts import PicturePrompt
from asg_jax.train.evolve.checks import drawn_shares, less_control, rises, trends


def test_the_first_and_the_last_tenth_are_compared():
    lines: list[dict[str, float | None]] = [
        {"check/yes_rate": n / 20, "loss/solver": 1.0} for n in range(20)
    ]
    lines[19]["kl/solver"] = 0.25
    lines[0]["check/yes_rate"] = None  # was not finite
    found = trends(lines)
    assert found.keys() == {"yes_rate", "kl/solver"}
    assert found["yes_rate"] == pytest.approx({"first": 0.075, "last": 0.925})
    assert found["kl/solver"] == {"first": 0.25, "last": 0.25}


def test_a_line_through_the_rewards_of_a_role():
    """Slope and error are scipy's, over the whole span; roles take turns."""
    noise = np.random.default_rng(0).normal(size=12)
    solver = [(step, 0.1 * step + noise[step]) for step in range(0, 12, 2)]
    other = {"reward/solver_std": 1.0, "reward/solver_flat": 0.0}
    lines = [
        {"step": step, "phase": "understanding", "reward/solver": value, **other}
        for step, value in solver
    ]
    lines += [
        {"step": step, "phase": "generation", "reward/generator": 3 - step / 4}
        for step in (1, 3, 5, 9)
    ]
    lines += [{"step": 11, "phase": "generation", "reward/generator": None}]
    lines += [{"step": step, "phase": "asking", "reward/proposer": 1.0} for step in (7, 13)]
    found = rises(lines)
    assert found.keys() == {"solver", "generator"}  # two steps tell nothing
    fitted: Any = linregress(*np.array(solver).T)
    want = {"rise": 10 * fitted.slope, "error": 10 * fitted.stderr}
    assert found["solver"] == pytest.approx(want)
    assert found["generator"] == pytest.approx({"rise": -2, "error": 0}, abs=1e-6)


def test_phases_may_differ_in_their_rewards():
    """One that comes late and is rewarded less makes no slope."""
    lines = [
        {"step": n, "phase": "replay" if n > 6 else "first", "reward/painter": n / 10 - (n > 6)}
        for n in range(11)
    ]
    assert rises(lines)["painter"] == pytest.approx({"rise": 1, "error": 0}, abs=1e-6)


def test_rewards_less_those_of_another_run_at_the_same_steps():
    line = lambda step, reward: {"step": step, "phase": "first", "reward/solver": reward, "x": 1.0}
    run = [line(1, 0.5), line(2, 0.25), line(3, None), line(4, 1.0)]
    control = [line(4, 0.75), line(1, 1.0), line(3, 0.0), {"step": 2, "phase": "first"}]
    step = lambda n, **rewards: {"step": n, "phase": "first", **rewards}
    want = [
        step(1, **{"reward/solver": -0.5}),
        step(2),
        step(3),
        step(4, **{"reward/solver": 0.25}),
    ]
    assert less_control(run, control) == want


def test_colours_and_counts_are_told_next_to_the_prompts():
    red, any_two = Pick("red", "circle"), Pick(None, "square")
    prompts = [
        PicturePrompt("colors", Caption((Group(1, red),))),
        PicturePrompt("counting", Caption((Group(2, any_two),))),
    ]
    blue = render(Scene((Item("circle", "blue", 0),)))
    white = render(Scene((Item("square", "white", 1), Item("square", "white", 2))))
    found = drawn_shares(prompts, {"after": np.stack([blue, white])})
    assert found["colors"]["asked"]["red"] == 1 and found["colors"]["after"]["blue"] == 1
    assert found["open_colors"].keys() == {"after"} and found["open_colors"]["after"]["white"] == 1
    assert found["counts"]["asked"] == found["counts"]["after"]
    assert found["counts"]["asked"]["2"] == 0.5
