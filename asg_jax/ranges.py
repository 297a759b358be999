"""Ranges of numbers: said where a setting is declared, checked all at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asg_jax.errors import UserError

_RANGE = "range"  # key in the metadata of a field


@dataclass(frozen=True)
class Range:
    """The numbers that make sense; NaN and infinities never do.

    Attributes:
      least: closed lower bound.
      above: open lower bound.
      most: closed upper bound; without it integers must fit into int32, others into float32.
      below: open upper bound.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def fault(self, value: float) -> str | None:
        """What a number must be and is not, as in "at least 1"; None if it is in the range."""
        size = 2**31 - 1 if isinstance(value, int) else 3e38
        least, above, most, below = self.least, self.above, self.most, self.below
        if most is None and not abs(value) <= size:  # also NaN
            least, most = -size if least is above is None else least, size
        inside = (
            value == value
            and (least is None or value >= least)
            and (above is None or value > above)
            and (most is None or value <= most)
            and (below is None or value < below)
        )
        return None if inside else str(Range(least, above, most, below))

    def __str__(self) -> str:
        """The bounds in words, as in "at least 0 and below 1"; empty without any."""
        bounds = {
            "at least": self.least,
            "above": self.above,
            "at most": self.most,
            "below": self.below,
        }
        return " and ".join(f"{word} {n:.12g}" for word, n in bounds.items() if n is not None)


SEED = Range(least=0, most=2**32 - 1)  # what NumPy, JAX and grain all take


def bounded(default: Any, within: Range | None = None, **bounds: float) -> Any:
    """A field of a dataclass whose numbers must lie in a range.

    Args:
      default: value of the field.
      within: the range; without it one of these `bounds`.
      bounds: `least`, `above`, `most`, `below`; see `Range`.
    """
    return dataclasses.field(default=default, metadata={_RANGE: within or Range(**bounds)})


def declared(field: dataclasses.Field[Any]) -> Range:
    """The range that a field of a dataclass was declared with; without bounds if with none."""
    return field.metadata.get(_RANGE, Range())


def faults(settings: Any, path: str = "") -> list[str]:
    """A sentence about every field of a dataclass, and of those in it, that is out of its range.

    Of a tuple or mapping all members must be in the range; None, texts and truth values always are.
    A field that declares no range must be finite.

    Args:
      settings: an instance.
      path: how it is called.
    """
    found = []
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{path}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            found += faults(value, name)
            continue
        fault = next(filter(None, map(declared(field).fault, _numbers(value))), None)
        if fault:
            found.append(f"{name} is {value}; it must be {fault}.")
    return found


def check(settings: Any, path: str = "", more: Iterable[str] = ()) -> None:
    """Makes sure that all numbers of a dataclass are in their ranges.

    Args:
      settings: an instance.
      path: how it is called.
      more: sentences about other faults of it.

    Raises:
      UserError: names every field that is not, and tells the other faults.
    """
    found = [*faults(settings, path), *more]
    if found:
        raise UserError(" ".join(found))


def _numbers(value: Any) -> Iterator[int | float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for member in value:
            yield from _numbers(member)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
