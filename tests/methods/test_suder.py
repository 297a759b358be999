"""SUDER on tiny random models: both directions, both updates."""

import numpy as np
import pytest

from tests.methods.relatives import make, moved, run
from tests.tiny import variants


@pytest.mark.slow
@variants("suder_grpo", "suder_simpo")
def test_both_directions_learn(model, name: str) -> None:
    first, last, (told, drawn) = run(make(model, name), 2)
    assert (told.phase, drawn.phase) == ("understanding", "generation")
    assert told.metrics["gradient/solver"] > 0 and drawn.metrics["gradient/generator"] > 0
    assert moved(first, last) == {"solver", "generator"}
    assert drawn.metrics["reward/generator"] < 0  # a log-likelihood
    assert {"said", "reward"} <= set(told.rows[0])
    exact = model.backbone.spec.kind == "bits"
    assert ("check/bayes_gap" in told.metrics) == exact
    if not exact:
        shared = told.metrics["check/likelihood_variance"]
        assert 0 < shared < told.metrics["check/likelihood_variance_alone"]
    assert 0 <= drawn.metrics["check/non_unification"] <= 1
    assert np.isfinite([row["reward"] for row in drawn.rows]).all()
