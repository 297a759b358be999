"""The scores of a model, item by item, and comparisons between models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asg_jax.errors import UserError
from asg_jax.train.evaluate.bootstrap import Interval, Term, contrast
from asg_jax.train.evaluate.generation import BEST, DRAWN
from asg_jax.train.evaluate.outcomes import ALL, Outcomes, from_json, to_json
from asg_jax.train.evaluate.understanding import ENSEMBLE, GREEDY, SAMPLED, VOTE

UNDERSTANDING, GENERATION, BEST_OF = "understanding", "generation", "best of several"
HEADROOM = (  # part, the measure that votes or chooses, the one that does not
    (UNDERSTANDING, ENSEMBLE, GREEDY),
    (UNDERSTANDING, VOTE, SAMPLED),
    (BEST_OF, BEST, DRAWN),
)

Table = dict[str, dict[str, dict[str, Interval]]]  # part, measure, statistic


@dataclass(frozen=True)
class Scores:
    """Outcomes of the parts of an evaluation: answers, pictures, and the headroom of the latter."""

    parts: Mapping[str, Outcomes]

    def points(self, part: str, measure: str) -> float:
        """The score of all items, in points of 100."""
        return float(100 * self.parts[part].right[measure].mean())

    @property
    def headline(self) -> dict[str, float]:
        """The score of every measure, named "part/measure"."""
        return {
            f"{part}/{measure}": self.points(part, measure)
            for part, outcomes in self.parts.items()
            for measure in outcomes.right
        }

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {part: to_json(outcomes) for part, outcomes in self.parts.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Scores:
        """What `to_json` was called on."""
        return cls({part: from_json(outcomes) for part, outcomes in document.items()})

    def save(self, path: Path) -> None:
        """Writes a JSON file."""
        path.write_text(json.dumps(self.to_json()) + "\n")

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Reads what `save` wrote.

        Raises:
          UserError: the file is missing or holds something else.
        """
        try:
            return cls.from_json(json.loads(path.read_text()))
        except Exception as error:  # what is no JSON of scores fails in any way
            raise UserError(
                f"{path} holds no scores ({error!r}); evaluate the model again."
            ) from error


Pair = tuple[Scores, Scores]  # before, after


def summary(scores: Scores) -> Table:
    """Every statistic of a model, with its interval."""
    return combine([(1.0, scores)])


def compare(before: Scores, after: Scores) -> Table:
    """Every statistic of `after` minus that of `before`, with paired intervals.

    Raises:
      UserError: they are scores on different items.
    """
    return combine(_difference((before, after), 1.0))


def pooled(real: Sequence[Pair], control: Sequence[Pair] = ()) -> Table:
    """The mean gain of several runs, less the mean gain of control runs if there are any.

    The intervals speak of the items, not of what other runs would have given; for that, look at
    the gain of each run.

    Args:
      real: scores before and after each run.
      control: the same of runs that should gain nothing.

    Raises:
      UserError: the scores of a pair are on different items.
    """
    gains = [term for pair in real for term in _difference(pair, 1 / len(real))]
    others = [term for pair in control for term in _difference(pair, -1 / len(control))]
    return combine([*gains, *others])


def headroom(scores: Scores) -> dict[str, Interval]:
    """How much better a model's agreement with itself is than a single answer or picture.

    Returns:
      Gains of the voting measures by "part/measure"; those that were measured.
    """
    gains = {}
    for part, more, less in HEADROOM:
        outcomes = scores.parts.get(part)
        if outcomes is not None and more in outcomes.right:
            terms = [Term(1.0, outcomes, more), Term(-1.0, outcomes, less)]
            gains[f"{part}/{more}"] = contrast(terms)[ALL]
    return gains


def combine(terms: Sequence[tuple[float, Scores]]) -> Table:
    """Every statistic of a weighted sum of scores, for the measures that all of them have."""
    table: Table = {}
    for part, outcomes in terms[0][1].parts.items():
        if all(part in scores.parts for _, scores in terms):
            weighted = [(weight, scores.parts[part]) for weight, scores in terms]
            table[part] = {
                measure: contrast([Term(w, o, measure) for w, o in weighted])
                for measure in outcomes.right
                if all(measure in o.right for _, o in weighted)
            }
    return table


def _difference(pair: Pair, weight: float) -> list[tuple[float, Scores]]:
    before, after = pair
    for part in before.parts.keys() & after.parts.keys():
        if not before.parts[part].same_items(after.parts[part]):
            raise UserError(
                f"the scores of '{part}' are on different items; evaluate both models with the "
                "same seed and sizes."
            )
    return [(weight, after), (-weight, before)]
