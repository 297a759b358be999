"""Every ablation, objective and form of a signal takes steps, and they are other steps."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from asg_jax.methods.asg import ABLATIONS, Asg, Settings, ablation
from asg_jax.methods.base import Report, TrainState
from tests.methods.conftest import BITS, FLOW, SETTINGS, fitting, make, pictures

pytestmark = pytest.mark.slow

FULL = replace(SETTINGS, framings=4)
FLOWS = {
    "rwr": {"objective": "rwr"},
    "flow_grpo": {
        "objective": "flow_grpo",
        "sampler": replace(SETTINGS.sampler, noise_level=0.7),
    },
    "draws": {"draws": 3},
    "guided": {"sampler": replace(SETTINGS.sampler, guidance=3.0)},
}
FORMS = {
    "probability": {"fidelity": "probability"},
    "frozen_judge": {"judge": "frozen"},
    "cosine": {"image_similarity": "cosine"},
}
OTHERS = FLOWS | FORMS | {"surrogate": {"objective": "surrogate"}}
CASES = [
    *((FLOW, name) for name in (*ABLATIONS, *FORMS, *FLOWS)),
    # What the kind of the Generator's loss has a part in.
    *((BITS, name) for name in ("surrogate", "sft", "no_kl")),
]


def variant(settings: Settings, name: str) -> Settings:
    """The settings of a case."""
    return ablation(settings, name) if name in ABLATIONS else replace(settings, **OTHERS[name])


def cycle(asg: Asg, steps: int) -> tuple[TrainState, TrainState, list[Report]]:
    """The state at first, the state after some steps, and their reports."""
    first, reports = asg.init(0), []
    state = asg.init(0)
    for _ in range(steps):
        state, report = asg.step(state, pictures(), [1, 2, 3])
        reports.append(report)
    return first, state, reports


@pytest.fixture(scope="module")
def full(model) -> list[Report]:
    return cycle(make(model, fitting(model, FULL)), 4)[2]


@pytest.mark.parametrize(("model", "name"), CASES, indirect=["model"])
def test_a_variant_takes_other_steps(model, full: list[Report], name: str) -> None:
    # What differs through the Proposer's drift shows in the second cycle.
    steps = 4 if name in ("no_kl", "frozen_proposer") else 2
    first, last, reports = cycle(make(model, variant(fitting(model, FULL), name)), steps)
    assert int(last.step) == steps and int(last.skipped) == 0
    assert all(np.isfinite(list(report.metrics.values())).all() for report in reports)
    phases = [report.phase for report in reports]
    only = {"understanding_only": "understanding", "generation_only": "generation"}.get(name)
    cycles = steps // 2
    assert phases == ([only] * 2 if only else ["understanding", "generation"] * cycles)
    same = [a.metrics == b.metrics for a, b in zip(reports, full, strict=False)]
    changed = {phase for phase, equal in zip(phases, same, strict=True) if not equal}
    assert changed, name
    if name == "frozen_proposer":
        before, after = (state.roles["proposer"].adapter for state in (first, last))
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, after)))
    if name in OTHERS:
        assert changed == {"generation"}
