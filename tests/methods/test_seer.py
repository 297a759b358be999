"""SEER on tiny random models: comparing, then rewriting."""

import numpy as np
import pytest

from asg_jax.engine.pairs import prefers_first
from tests.methods.relatives import make, moved, run


@pytest.mark.slow
def test_the_evaluator_learns_first_then_the_reprompter(model) -> None:
    method = make(model, "seer", evaluator_steps=1, reprompter_steps=1, samples=2)
    first, last, (compared, rewritten) = run(method, 2)
    assert (compared.phase, rewritten.phase) == ("evaluation", "reprompting")
    assert 0 <= compared.metrics["reward/solver"] <= 2
    assert 0 < rewritten.metrics["reward/proposer"] < 1
    assert "proposer" in moved(first, last)


@pytest.mark.slow
def test_a_liking_of_either_place_cancels_out(model) -> None:
    method = make(model, "seer", samples=2)
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (3, 32, 32, 3), np.uint8) for _ in range(2))
    ask = lambda *pair: prefers_first(method.engine, method.frozen, ["a red circle"] * 3, *pair)
    np.testing.assert_allclose(ask(one, other) + ask(other, one), 1, atol=1e-4)
    assert ask(one, one) == pytest.approx(0.5, abs=1e-4)
