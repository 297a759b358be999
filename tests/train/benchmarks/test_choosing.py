"""Choosing among drawings: every way is judged on the same prompts, and says what it took."""

import json

import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.train.benchmarks import choosing
from asg_jax.train.benchmarks.choosing import EXACT, ONE, best, lines

SMALL = ["--prompts=6", "--several=3", "--wide=4", "--config.eval.steps=4", "--verifiers=p_yes"]


@pytest.mark.slow
def test_every_way_says_what_it_gains_and_took(tmp_path, capsys):
    choosing.main([*SMALL, f"--out={tmp_path / 'c.json'}"])
    report = json.loads((tmp_path / "c.json").read_text())
    assert capsys.readouterr().out.splitlines() == list(lines(report))
    ways = report["ways"]
    yes, pruned = best(3, "p_yes"), "search of 4 by p_yes"
    assert list(ways) == [ONE, best(3, EXACT), yes, pruned]
    took = {name: (way["evaluations"], way["verdicts"]) for name, way in ways.items()}
    # One step unscored, then widths of 2 and 1: 4 + 2 + 1 for the last two steps; looks before the
    # second, the third, and at the end.
    assert took == {ONE: (4, 0), best(3, EXACT): (12, 3), yes: (12, 3), pruned: (8, 7)}
    points = {name: way["points"][0] for name, way in ways.items()}
    assert points[best(3, EXACT)] == max(points[name] for name in (ONE, best(3, EXACT), yes))
    for name, way in ways.items():
        assert way["gain"][0] == pytest.approx(points[name] - points[ONE])
    assert ways[pruned]["less_best"][0] == pytest.approx(points[pruned] - points[yes])


def test_the_verifier_picks_what_it_likes_best():
    """Whatever order they come in, and however many prompts are looked at together."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (3, 25, 2, 2, 3), dtype=np.uint8)

    def bright(prompts, pixels):
        assert len(prompts) == len(pixels) == choosing.TOGETHER
        names = np.array([int(prompt) for prompt in prompts])
        return np.asarray(pixels).mean((2, 3, 4)) + names[:, None]

    found = choosing.looked(bright, list(map(str, range(25))), drawn)
    want = drawn.mean((2, 3, 4)) / 255 + np.arange(25)
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_an_unknown_verifier_is_named():
    with pytest.raises(UserError, match="no verifier is called taste; known are p_yes"):
        choosing.main(["--verifiers=p_yes,taste"])
