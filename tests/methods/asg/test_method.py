"""Signals of given pictures: what is run for them, and what is not."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import pytest

from asg_jax.engine.method import Examples
from asg_jax.engine.placement import OneDevice, Program
from asg_jax.models.registry import Model
from asg_jax.signals.table import DRAWINGS
from tests.tiny import IDS, B, flows, make, pictures


@dataclass(frozen=True)
class Noted(OneDevice):
    """One device on which the names of programs are noted when they run."""

    ran: list[str] = field(default_factory=list)

    def compile(self, program: Any) -> Program:
        jitted, name = jax.jit(program), program.__name__

        def run(params: Any, batch: Any) -> Any:
            self.ran.append(name)
            return jitted(params, batch)

        return run


@flows
@pytest.mark.parametrize(
    "name, programs",
    [
        ("gvu", {"explain"}),
        pytest.param("likelihood_cycle", {"ask_about", "compare"}, marks=pytest.mark.slow),
        pytest.param(
            "contradiction", {"see", "continue_texts", "ask_about"}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_signal_runs_what_it_needs_alone(model: Model, name: str, programs: set[str]) -> None:
    placement = Noted()
    asg = make(model, placement=placement)
    signal = DRAWINGS[name]
    request = asg.prepare(pictures()) if signal.compares else None
    shown = np.stack([np.stack([np.asarray(one) for one in pictures(n, 2)]) for n in range(B)])
    examples, texts = Examples(0, 0, IDS, (0, 1, 2), request), ["a red circle"] * B
    scores = asg.score(asg.init(0), examples, texts, shown, {name: signal})
    assert scores[name].shape == (B, 2) and np.isfinite(scores[name]).all()
    assert set(placement.ran) == programs
