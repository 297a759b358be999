"""Methods side by side on one model, all with the same budget of compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from asg_jax.engine.method import Examples, Phase
from asg_jax.errors import UserError
from asg_jax.methods import METHODS, preset
from asg_jax.train.evaluate.scores import Pair
from asg_jax.train.evolve.checks import Lines, less_control, rises
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.files import Folder, read_json, write_json
from asg_jax.train.evolve.logs import read_metrics
from asg_jax.train.evolve.parts import Parts, assemble
from asg_jax.train.evolve.pool import pool, read_runs, text
from asg_jax.train.evolve.run import SUMMARY
from asg_jax.train.evolve.summary import MEASURES, TITLES
from asg_jax.train.evolve.typed import changed, flat, plain

CONTROL = "shuffled_rewards"
PRICES = "prices.json"  # token-forwards of a step, by method


def chosen(names: Sequence[str]) -> list[str]:
    """The methods of these names; all without any.

    Raises:
      UserError: one is unknown, or has no control.
    """
    found = list(names) or list(METHODS)
    for name in found:
        if CONTROL not in preset(name).ablations:
            raise UserError(f"method '{name}' has no control '{CONTROL}'; leave it out.")
    return found


def price(config: RunConfig) -> float:
    """Token-forwards of a step, the mean over a cycle: one step of every phase is taken.

    What a step costs depends on its shapes alone (`asg_jax.engine.spending`).
    """
    parts = assemble(config)
    phases = parts.method.phases
    first = np.cumsum([1, *(phase.steps for phase in phases)]).tolist()
    costs = [
        _cost(parts, config, phase, step) * phase.steps
        for phase, step in zip(phases, first, strict=False)
        if phase.steps
    ]
    return sum(costs) / sum(phase.steps for phase in phases)


def _cost(parts: Parts, config: RunConfig, phase: Phase, step: int) -> float:
    """Of the first step of a phase."""
    total = getattr(config.batch, phase.batch)
    rows = parts.placement.share.rows(total)
    known = (parts.source[n] for n in range(len(parts.source)))
    some = [example for example, _ in zip(filter(None, known), rows, strict=False)]
    request = parts.method.prepare([example.picture for example in some])
    ids = tuple(example.id for example in some)
    state = parts.placement.place_state(parts.method.init(config.seed))
    _, report = parts.method.step(state, Examples(config.seed, step, ids, tuple(rows), request))
    metrics = report().metrics
    return sum(value for name, value in metrics.items() if name.startswith("cost/"))


def priced(config: RunConfig, place: Folder) -> float:
    """The same, remembered in a folder for the same settings."""
    known = read_json(place / PRICES) if (place / PRICES).exists() else {}
    depends = {"method", "batch", "model", "language"}
    facts = {k: v for k, v in flat(plain(config)).items() if k.partition(".")[0] in depends}
    own = known.get(config.method.name)
    if own is None or own["settings"] != facts:
        own = {"step": price(config), "settings": facts}
        jax.clear_caches()
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / PRICES, {**known, config.method.name: own})
    return own["step"]


def within(config: RunConfig, budget: float, step: float, control: bool) -> RunConfig:
    """The run of a method that spends a budget.

    Args:
      config: the run's settings, its method's among them.
      budget: token-forwards.
      step: token-forwards that a step costs.
      control: whether its rewards are dealt at random.

    Raises:
      UserError: the budget pays for no step.
    """
    steps, name = int(budget // step), config.method.name
    if steps < 1:
        raise UserError(f"a step of {name} costs {step:.3g} token-forwards; raise --budget.")
    known = preset(name)
    method = known.stages(config.method, steps)
    if control:
        changes = known.ablations[CONTROL]
        method = changes(method, steps) if callable(changes) else changed(method, changes)
        name = f"{name}_control"
    return replace(config, name=f"{name}_{config.seed}", steps=steps, method=method)


def compared(
    runs: Mapping[str, Sequence[Folder]],
    controls: Mapping[str, Sequence[Folder]],
    prices: Mapping[str, float],
) -> dict[str, Any]:
    """What every method gained, next to its control and to what it spent.

    Args:
      runs: folders of finished runs, by method.
      controls: the same of their controls.
      prices: token-forwards of a step, by method.
    """
    found = {}
    for name, folders in runs.items():
        if not folders:
            continue
        own = read_runs(folders)
        steps = read_json(folders[0] / SUMMARY, "steps")["steps"]
        found[name] = {
            "seeds": len(own),
            "steps": steps,
            "spent": steps * prices[name],
            "rewards": _rewards(folders, controls[name]),
            "points": _points(list(own.values())),
            **pool(own, read_runs(controls[name])),
        }
    return found


def _rewards(folders: Sequence[Folder], controls: Sequence[Folder]) -> dict[str, Any]:
    """Mean rises of rewards over runs, over controls, and over runs less their controls.

    A control sees the same pictures at the same steps, so that less of what differs is luck.
    """
    own, others = (list(map(read_metrics, place)) for place in (folders, controls))
    less = [less_control(*pair) for pair in zip(own, others, strict=True)]
    return {"gain": _mean(own), "control": _mean(others), "difference": _mean(less)}


def _mean(runs: Sequence[Lines]) -> dict[str, dict[str, Any]]:
    """The mean rise by role, with intervals as if the steps of a run were independent."""
    told, found = list(map(rises, runs)), {}
    for role in told[0]:
        rise = float(np.mean([run[role]["rise"] for run in told]))
        width = 1.96 * float(np.linalg.norm([run[role]["error"] for run in told])) / len(told)
        found[role] = {"value": rise, "ci95": [rise - width, rise + width]}
    return found


def _points(pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """Mean scores before and after."""
    mean = lambda scores, part, measure: float(np.mean([s.points(part, measure) for s in scores]))
    sides = list(zip(*pairs, strict=True))
    return {
        name: [mean(side, part, measure) for side in sides]
        for name, (part, measure, _) in MEASURES.items()
    }


def markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """The comparison as a Markdown table."""
    yield (
        "Scores in points of 100, before and after; gains with 95 % intervals; `less control`:"
        " minus the gain of the same method with rewards dealt at random. Rewards: by how much a"
        " straight line through those of a role rises over a run, and less those of such a run."
    )
    yield ""
    heads = " | ".join(f"{title} | gain | less control" for title in TITLES.values())
    yield f"| method | seeds | steps | token-forwards | {heads} | rewards rise | less control |"
    yield "| --- " * (6 + 3 * len(TITLES)) + "|"
    for name, own in found.items():
        cells = [name, str(own["seeds"]), str(own["steps"]), f"{own['spent']:.2g}"]
        for measure in TITLES:
            before, after = own["points"][measure]
            cells += [f"{before:.1f} to {after:.1f}", text(own[measure]["gain"])]
            difference = own[measure].get("difference")
            cells.append(text(difference) if difference else "")
        cells += [_told(own["rewards"][column]) for column in ("gain", "difference")]
        yield "| " + " | ".join(cells) + " |"


def _told(rises: Mapping[str, Any]) -> str:
    """Rewards of all roles in a cell."""
    of_role = lambda own: f"{own['value']:+.3f} ({own['ci95'][0]:+.3f} to {own['ci95'][1]:+.3f})"
    return ", ".join(f"{role} {of_role(own)}" for role, own in rises.items())
