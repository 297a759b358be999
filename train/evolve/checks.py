"""How rewards moved in a run, and signs that it found a way round them instead of learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from asg_jax.train.data.scenes import CELLS, COLORS
from asg_jax.train.evaluate.detector import detect
from asg_jax.train.evaluate.prompts import PicturePrompt

Lines = Sequence[Mapping[str, Any]]  # metrics of all steps, in order

GROUPS = ("check/", "kl/")  # of metrics in which such signs show
REWARDS = "reward/"  # of metrics: means by role, and statistics of them with a suffix
TENTH = 10  # the first and the last tenth of a run are compared


def trends(lines: Lines) -> dict[str, Any]:
    """Means of metrics over the first and the last tenth of the steps that reported them.

    Args:
      lines: metrics of all steps, in order.
    """
    names = dict.fromkeys(name for line in lines for name in line if name.startswith(GROUPS))
    found = {}
    for name in names:
        values = [line[name] for line in lines if line.get(name) is not None]
        count = -(-len(values) // TENTH)
        if values:
            first, last = np.mean(values[:count]), np.mean(values[-count:])
            found[name.removeprefix("check/")] = {"first": float(first), "last": float(last)}
    return found


def rises(lines: Lines) -> dict[str, dict[str, float]]:
    """By how much the mean reward of every role rises from the first to the last of its steps.

    Args:
      lines: metrics of all steps, in order.

    Returns:
      By role the `rise` of the least-squares line, with an intercept for every phase in which the
      role is rewarded, and its standard error as if steps were independent (`error`); a role with
      too few steps for that is left out.
    """
    names = dict.fromkeys(name for line in lines for name in line if name.startswith(REWARDS))
    found = {}
    for name in names:
        role = name.removeprefix(REWARDS)
        told = [line for line in lines if line.get(name) is not None]
        phases = sorted({line["phase"] for line in told})
        if role.endswith(("_std", "_flat")) or len(told) < len(phases) + 2:
            continue
        steps, values = np.array([(line["step"], line[name]) for line in told]).T
        within = np.array([[line["phase"] == phase for phase in phases] for line in told])
        line = np.column_stack([(steps - steps[0]) / np.ptp(steps), within])
        weights, *_ = np.linalg.lstsq(line, values)
        variance = np.sum((values - line @ weights) ** 2) / (len(told) - len(phases) - 1)
        error = np.sqrt(variance * np.linalg.inv(line.T @ line)[0, 0])
        found[role] = {"rise": float(weights[0]), "error": float(error)}
    return found


def less_control(lines: Lines, control: Lines) -> list[dict[str, Any]]:
    """The rewards of a run minus those of another at the same steps."""
    others = {line["step"]: line for line in control}
    found = []
    for line in lines:
        other = others.get(line["step"], {})
        both = [name for name in line if name.startswith(REWARDS) and other.get(name) is not None]
        rewards = {name: line[name] - other[name] for name in both if line[name] is not None}
        found.append({"step": line["step"], "phase": line["phase"], **rewards})
    return found


def drawn_shares(
    prompts: Sequence[PicturePrompt], pictures: Mapping[str, UInt8[np.ndarray, "N 32 32 3"]]
) -> dict[str, Any]:
    """Which colours and how many items pictures show, next to what their prompts ask for.

    A model that paints what is easy shows some colours and counts more often than asked.

    Args:
      prompts: what was drawn.
      pictures: drawings of every prompt, by the name of the model.

    Returns:
      Shares by colour where a colour is asked for, by colour where it is left open, and by count.
    """
    open_colors = np.array([prompt.caption.picks[0].color is None for prompt in prompts])
    asked = [[pick.color for pick in prompt.caption.picks] for prompt in prompts]
    views = {"asked": asked} | {
        name: [[item.color for item in shown.items] for shown in detect(drawn)]
        for name, drawn in pictures.items()
    }
    colors = lambda lists, chosen: _shares(
        [color for n in np.flatnonzero(chosen) for color in lists[n]], COLORS
    )
    return {
        "colors": {name: colors(lists, ~open_colors) for name, lists in views.items()},
        "open_colors": {n: colors(v, open_colors) for n, v in views.items() if n != "asked"},
        "counts": {n: _shares(list(map(len, v)), range(len(CELLS) + 1)) for n, v in views.items()},
    }


def _shares(values: Sequence[Any], options: Iterable[Any]) -> dict[str, float]:
    """How often each option occurs among the values."""
    counts = Counter(values)
    return {str(option): counts[option] / max(1, len(values)) for option in options}
