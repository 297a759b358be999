"""What came of every item of an evaluation, and the statistics that are made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of one or more measures on the same items.

    Attributes:
      seed: gives the items; equal seeds and sizes mean equal items.
      clusters: number of the picture (or text of the prompt) that an item belongs to, from 0 on.
        Items of one cluster are not independent.
      labels: groups of items whose scores are told apart: label -> its value for every item.
      right: measure -> which outputs came out right; a measure may have several for each item.
      clear: measure -> which outputs can be judged at all.
    """

    seed: int
    clusters: Int[np.ndarray, " N"]
    labels: Mapping[str, tuple[str, ...]]
    right: Mapping[str, Bool[np.ndarray, "outputs N"]]
    clear: Mapping[str, Bool[np.ndarray, "outputs N"]]

    def same_items(self, other: Outcomes) -> bool:
        """Whether the items are the same, so that outcomes can be compared one by one."""
        return (self.seed, self.labels) == (other.seed, other.labels)


class Statistic(NamedTuple):
    """A share: how many outputs of each item have a property, of how many that count."""

    name: str
    has: Int[np.ndarray, " N"]
    counts: Int[np.ndarray, " N"]


ALL, CLEAR, OF_CLEAR = "all", "parsable", "right if parsable"


def statistics(outcomes: Outcomes, measure: str) -> Iterator[Statistic]:
    """The score, the share of parsable outputs, the score of these alone, that of each group."""
    right, clear = outcomes.right[measure], outcomes.clear[measure]
    counted = lambda name, has, counts: Statistic(name, (has & counts).sum(0), counts.sum(0))
    everything = np.ones_like(right)
    yield counted(ALL, right, everything)
    yield counted(CLEAR, clear, everything)
    yield counted(OF_CLEAR, right, clear)
    for label, values in outcomes.labels.items():
        for value in sorted(set(values)):
            yield counted(f"{label}: {value}", right, everything & (np.array(values) == value))


def to_json(outcomes: Outcomes) -> dict[str, Any]:
    """Everything in it as JSON; yes and no of an output of all items are a string of 1 and 0."""
    text = lambda row: "".join(map(str, row.astype(int)))
    bits = lambda table: {name: list(map(text, rows)) for name, rows in table.items()}
    return {
        "seed": outcomes.seed,
        "clusters": outcomes.clusters.tolist(),
        "labels": {label: list(values) for label, values in outcomes.labels.items()},
        "right": bits(outcomes.right),
        "clear": bits(outcomes.clear),
    }


def from_json(document: Mapping[str, Any]) -> Outcomes:
    """What `to_json` was given."""
    array = lambda rows: np.array(list(map(list, rows))) == "1"
    bits = lambda table: {name: array(rows) for name, rows in table.items()}
    return Outcomes(
        seed=document["seed"],
        clusters=np.array(document["clusters"]),
        labels={label: tuple(values) for label, values in document["labels"].items()},
        right=bits(document["right"]),
        clear=bits(document["clear"]),
    )
