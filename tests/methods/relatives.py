"""Running the relatives of ASG on the tiny random models."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import jax
import numpy as np

from asg_jax.engine.method import Report
from asg_jax.engine.placement import OneDevice
from asg_jax.engine.roles import Optimizer
from asg_jax.engine.state import TrainState
from asg_jax.methods import preset, settings_for
from asg_jax.models.registry import Model
from tests.tiny import BABBLE, SETTINGS, B, copied, examples, fitting, unified

# Of the language of scenes; short enough for a random model.
LENGTHS = replace(SETTINGS.lengths, caption=8)


def small(model: Model, name: str, **changes: Any) -> Any:
    """A preset's settings for a tiny model of either kind."""
    fitted = fitting(model)
    known = {field.name: getattr(fitted, field.name) for field in fields(fitted)}
    known |= {"optimizer": Optimizer(average_decay=0.5), "lengths": LENGTHS}
    known |= {"captions": 3, "draws": 2, "answers": 3, "proposer_every": 2}
    settings = settings_for(name, known)
    return replace(settings, **changes)


def make(model: Model, name: str, **changes: Any) -> Any:
    """A preset on a tiny model."""
    settings = small(model, name, **changes)
    sizes = {"understanding": B, "generation": B}
    return preset(name).make(unified(model), BABBLE, settings, sizes, OneDevice(), None)


def run(method: Any, steps: int) -> tuple[TrainState, TrainState, list[Report]]:
    """The state at first, after some steps, and the reports; every number is finite."""
    state = method.init(0)
    first, reports = copied(state), []
    for step in range(1, steps + 1):
        state, later = method.step(state, examples(method, step))
        reports.append(later())
    assert int(state.step) == steps and int(state.skipped) == 0
    for report in reports:
        wrong = {k: v for k, v in report.metrics.items() if not np.isfinite(v)}
        assert not wrong, wrong
    return first, state, reports


def moved(first: TrainState, last: TrainState) -> set[str]:
    """The roles whose factors changed."""
    same = lambda role: jax.tree.map(
        np.array_equal, first.roles[role].adapter, last.roles[role].adapter
    )
    return {role for role in first.roles if not all(jax.tree.leaves(same(role)))}
