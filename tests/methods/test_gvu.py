"""GvU on tiny random models, and rewards mixed of any signals."""

import numpy as np
import pytest

from asg_jax.signals.table import DRAWINGS, weights_of
from tests.methods.relatives import make, moved, run
from tests.tiny import bits_slowly

MIXED = weights_of(DRAWINGS, gvu=0.5, p_yes=0.5, question_margin=0.2, diversity=0.1)


@bits_slowly
def test_drawings_that_explain_their_prompts_are_learned_from(model) -> None:
    first, last, (report,) = run(make(model, "gvu"), 1)
    assert 0 < report.metrics["reward/generator"] < 1
    assert report.metrics["signal/gvu"] == report.metrics["reward/generator"]
    assert report.metrics["gradient/generator"] > 0 and moved(first, last) == {"generator"}
    assert len(report.pictures) and report.rows[0]["prompt"]


@pytest.mark.slow
def test_a_mix_of_signals_needs_no_code(model) -> None:
    _, _, (report,) = run(make(model, "gvu", weights=MIXED, judge="ema", source="written"), 1)
    names = ("gvu", "p_yes", "question_margin", "diversity")
    total = sum(MIXED[name] * report.metrics[f"signal/{name}"] for name in names)
    np.testing.assert_allclose(report.metrics["reward/generator"], total, rtol=1e-4)
