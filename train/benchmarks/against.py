"""A report of the rewards benchmark beside that of another run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from asg_jax.errors import UserError
from asg_jax.models.config_files import read_object
from asg_jax.models.places import place
from asg_jax.train.benchmarks.power import Truth, change
from asg_jax.train.benchmarks.trials import VERSION

Texts = Mapping[str, Sequence[str]]  # of the sets, by name


def load(name: str) -> dict[str, Any]:
    """The report of another run.

    Raises:
      UserError: it is none, of another version of the sets, or damaged.
    """
    report = read_object(place(name), "a report of `bench rewards`")
    if report.get("benchmark") != "rewards" or report.get("version") != VERSION:
        raise UserError(
            f"{name} is no report of `bench rewards` with sets of version {VERSION}; make it anew"
            " with --out."
        )
    try:
        changes(report, report)  # before work that damage would make useless
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{name} is damaged; make it anew with --out.") from error
    return report


def common(
    signals: Iterable[str], texts: Texts, before: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Signals, and sets of the same texts, that another run has as well.

    Raises:
      UserError: there are none.
    """
    known = before["sets"]
    sets = [name for name in texts if known.get(name, {}).get("texts") == texts[name]]
    shared = [name for name in signals if name in before["signals"]]
    if not sets or not shared:
        raise UserError("--against has no signal or no set of the same texts; nothing to compare.")
    return shared, sets


def changes(report: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What the power of every signal has changed since another run, with 95 % intervals.

    Raises:
      UserError: the two have no set of the same texts in common.
    """
    texts = {name: known["texts"] for name, known in report["sets"].items()}
    signals, sets = common(report["signals"], texts, before)
    truth = lambda run, name: Truth(
        np.array(run["sets"][name]["rank"]),
        np.array(run["sets"][name]["exists"]),
        run["sets"][name]["kinds"],
    )
    scores = lambda run, signal, name: np.array(run["signals"][signal]["scores"][name])
    both = lambda run, signal, name: (scores(run, signal, name), truth(run, name))
    return {
        signal: {
            name: change(*both(report, signal, name), *both(before, signal, name), report["seed"])
            for name in sets
        }
        for signal in signals
    }
