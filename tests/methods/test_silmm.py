"""SILMM on tiny random models: own prompts, own questions, rounds."""

import jax
import numpy as np
import pytest

from tests.methods.relatives import make, run
from tests.tiny import variants


@pytest.mark.slow
@variants("silmm", "silmm_kc")
def test_a_round_draws_with_the_model_before_it(model, name: str) -> None:
    method = make(model, name, round=2)
    first, last, reports = run(method, 2)
    same = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, a, b))
    assert same(last.memory.anchor, last.roles["generator"].adapter)  # the second step ended it
    middle = run(method, 1)[1]
    assert same(middle.memory.anchor, first.roles["generator"].adapter)
    assert [report.metrics["state/round"] for report in reports] == [0, 1]
    assert all(-1 <= report.metrics["reward/generator"] <= 1 for report in reports)
    assert reports[0].metrics["loss/generator"] == pytest.approx(np.log(2), rel=1e-3)
