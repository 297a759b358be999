"""Every ablation, objective and form of a signal takes steps, and they are other steps."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from asg_jax.engine.method import Report
from asg_jax.engine.state import TrainState
from asg_jax.methods.asg import ABLATIONS, Asg, Settings
from asg_jax.objectives.drawings import NFT, RWR, FlowGRPO
from asg_jax.signals.table import DRAWINGS, weights_of
from asg_jax.train.evolve.typed import changed
from tests.tiny import BITS, FLOW, SETTINGS, fitting, make, take

pytestmark = pytest.mark.slow

FULL = replace(SETTINGS, framings=4)
STOCHASTIC = replace(SETTINGS.sampler, noise_level=0.7)
FLOWS = {
    "rwr": {"generator.objective": RWR()},
    "flow_grpo": {"generator.objective": FlowGRPO(), "sampler": STOCHASTIC},
    "draws": {"generator.objective": NFT(draws=3)},
    "guided": {"sampler": replace(SETTINGS.sampler, guidance=3.0)},
}
FORMS = {
    "probability": {"weights": weights_of(DRAWINGS, probability_fidelity=1.0)},
    "frozen_judge": {"judge": "frozen"},
    "cosine": {"weights": weights_of(DRAWINGS, cosine_cycle=1.0)},
}
DROPOUT = {"dropout": {"adapter_dropout": 0.5}}
OTHERS = FLOWS | FORMS
SWITCHES = {name: one for name, one in ABLATIONS.items() if isinstance(one, dict)}
CHANGES = SWITCHES | OTHERS | DROPOUT
# One of each part that a setting may change; the others take as long, and are `long`.
BRIEF = {
    "no_self_consistency", "sft", "no_kl", "shuffled_rewards", "flow_grpo", "frozen_judge",
}  # fmt: skip
CASES = [
    *(pytest.param(FLOW, name, marks=[pytest.mark.long] * (name not in BRIEF)) for name in CHANGES),
    # What the kind of the Generator's loss has a part in.
    *(pytest.param(BITS, name, marks=pytest.mark.long) for name in ("sft", "no_kl", "dropout")),
]


def variant(settings: Settings, name: str) -> Settings:
    """The settings of a case."""
    return changed(settings, CHANGES[name])


def cycle(asg: Asg, steps: int) -> tuple[TrainState, TrainState, list[Report]]:
    """The state at first, the state after some steps, and their reports."""
    first, reports = asg.init(0), []
    state = asg.init(0)
    for step in range(1, steps + 1):
        state, report = take(asg, state, step)
        reports.append(report)
    return first, state, reports


@pytest.fixture(scope="module")
def full(model) -> list[Report]:
    return cycle(make(model, fitting(model, FULL)), 4)[2]


@pytest.mark.parametrize(("model", "name"), CASES, indirect=["model"])
def test_a_variant_takes_other_steps(model, full: list[Report], name: str) -> None:
    # What differs through the Proposer's drift shows in the second cycle.
    steps = 4 if name in ("no_kl", "frozen_proposer", "dropout") else 2
    first, last, reports = cycle(make(model, variant(fitting(model, FULL), name)), steps)
    assert int(last.step) == steps and int(last.skipped) == 0
    assert all(np.isfinite(list(report.metrics.values())).all() for report in reports)
    phases = [report.phase for report in reports]
    only = {"understanding_only": "understanding", "generation_only": "generation"}.get(name)
    cycles = steps // 2
    assert phases == ([only] * 2 if only else ["understanding", "generation"] * cycles)
    same = [a.metrics == b.metrics for a, b in zip(reports, full, strict=False)]
    others = {phase for phase, equal in zip(phases, same, strict=True) if not equal}
    assert others, name
    if name == "frozen_proposer":
        before, after = (state.roles["proposer"].adapter for state in (first, last))
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, after)))
    if name in OTHERS:
        assert others == {"generation"}
