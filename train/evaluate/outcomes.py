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
      seed: of the items; equal seeds and sizes mean equal items.
      clusters: number of the picture (or prompt) that an item belongs to, from 0 on. Items of one
        cluster are not independent.
      labels: groups of items whose scores are told apart: label -> its value for every item.
      right: measure -> which items came out right.
      clear: measure -> for which items there was an output that can be judged at all.
    """

    seed: int
    clusters: Int[np.ndarray, " N"]
    labels: Mapping[str, tuple[str, ...]]
    right: Mapping[str, Bool[np.ndarray, " N"]]
    clear: Mapping[str, Bool[np.ndarray, " N"]]

    def same_items(self, other: Outcomes) -> bool:
        """Whether the items are the same, so that outcomes can be compared one by one."""
        return (self.seed, self.labels) == (other.seed, other.labels)


class Statistic(NamedTuple):
    """A share: how many of the counted items have a property."""

    name: str
    has: Bool[np.ndarray, " N"]
    counts: Bool[np.ndarray, " N"]


ALL, CLEAR, OF_CLEAR = "all", "parsable", "right if parsable"


def statistics(outcomes: Outcomes, measure: str) -> Iterator[Statistic]:
    """The score, the share of parsable outputs, the score of these alone, that of each group."""
    right, clear = outcomes.right[measure], outcomes.clear[measure]
    everything = np.ones_like(right)
    yield Statistic(ALL, right, everything)
    yield Statistic(CLEAR, clear, everything)
    yield Statistic(OF_CLEAR, right, clear)
    for label, values in outcomes.labels.items():
        for value in sorted(set(values)):
            yield Statistic(f"{label}: {value}", right, np.array(values) == value)


def to_json(outcomes: Outcomes) -> dict[str, Any]:
    """Everything in it as JSON; yes and no of all items are strings of 1 and 0."""
    bits = lambda table: {name: "".join(map(str, x.astype(int))) for name, x in table.items()}
    return {
        "seed": outcomes.seed,
        "clusters": outcomes.clusters.tolist(),
        "labels": {label: list(values) for label, values in outcomes.labels.items()},
        "right": bits(outcomes.right),
        "clear": bits(outcomes.clear),
    }


def from_json(document: Mapping[str, Any]) -> Outcomes:
    """What `to_json` was given."""
    bits = lambda table: {name: np.array(list(x)) == "1" for name, x in table.items()}
    return Outcomes(
        seed=document["seed"],
        clusters=np.array(document["clusters"]),
        labels={label: tuple(values) for label, values in document["labels"].items()},
        right=bits(document["right"]),
        clear=bits(document["clear"]),
    )
