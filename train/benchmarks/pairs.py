"""A user's own pictures and texts, with what is known of them: lines of a JSON file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.models.pictures import Unreadable, read_picture
from asg_jax.models.places import place
from asg_jax.train.benchmarks.power import RIGHT, Truth
from asg_jax.train.benchmarks.trials import Trial

NAMED = 5  # faulty lines that the log names; the others are counted

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A line of the file.

    Attributes:
      picture: a file; a path from the folder of the JSON file on.
      text: what it is to show.
      rank: the higher, the better it shows it; 1 and 0 where the line has a label.
      label: whether it shows it; None where the line has a rank alone.
      group: lines of one text are compared with each other; of one text and group, if it is given.
      reference: another picture that shows the text; signals that ask the same of both need it.
    """

    picture: str
    text: str
    rank: float
    label: bool | None
    group: str
    reference: str | None


class Faulty(Exception):
    """A line cannot be used; the message is the reason."""


def read(path: str | Path, side: int) -> Trial:
    """The pairs of a file as a trial; lines that cannot be used are logged, counted and left out.

    Args:
      path: a file of JSON objects, one a line: `picture`, `text`, `label` (true or false) or `rank`
        (a number), and if wished `group` and `reference`.
      side: pixels along the sides that pictures are brought to.

    Raises:
      UserError: the file is missing, no text, or holds nothing that could be compared.
    """
    path = place(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"{path} cannot be read ({reason}); --pairs names a JSONL file.") from error
    rows, faults = [], []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                rows.append(_load(parse(line), path.parent, side))
        except Faulty as error:
            faults.append(f"line {number} {error}")
    for fault in faults[:NAMED]:
        LOG.warning("%s: %s", path, fault)
    if faults:
        LOG.warning("%s: %d of %d lines were skipped", path, len(faults), len(lines))
    groups = list(_grouped(rows))
    labels = {pair.label for pair, _, _ in rows}
    if not ({True, False} <= labels or any(len({row[0].rank for row in g}) > 1 for g in groups)):
        told = f"; {faults[0]}" if faults else ""
        raise UserError(
            f"{path} holds nothing that could be compared{told}; it takes lines labelled true and"
            " false, or lines of one text that differ in rank."
        )
    return _trial(groups, side)


def parse(line: str) -> Pair:
    """A line of the file.

    Raises:
      Faulty: it is no JSON object, or a field is missing or of the wrong type.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Faulty("is no JSON") from error
    if not isinstance(fields, dict):
        raise Faulty("is no JSON object")
    if unknown := fields.keys() - {"picture", "text", "label", "rank", "group", "reference"}:
        raise Faulty(f"has the unknown field '{min(unknown)}'")
    for name in ("picture", "text"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise Faulty(f"has no text under '{name}'")
    if not isinstance(fields.get("reference", ""), str):
        raise Faulty("names no file under 'reference'")
    label, rank = _known(fields)
    group = str(fields.get("group", fields["text"]))
    return Pair(fields["picture"], fields["text"], rank, label, group, fields.get("reference"))


def _known(fields: dict[str, Any]) -> tuple[bool | None, float]:
    """Label and rank of a line; one of them is enough."""
    label, rank = fields.get("label"), fields.get("rank")
    if label not in (None, 0, 1) or isinstance(label, float):
        raise Faulty("has a 'label' that is neither true nor false")
    if rank is None:
        if label is None:
            raise Faulty("has neither 'label' nor 'rank'")
        return bool(label), float(label)
    if isinstance(rank, bool) or not isinstance(rank, int | float) or not abs(rank) < 1e9:
        raise Faulty("has a 'rank' that is no number")
    return None if label is None else bool(label), float(rank)


Row = tuple[Pair, UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"] | None]


def _load(pair: Pair, folder: Path, side: int) -> Row:
    reference = None if pair.reference is None else _picture(folder, pair.reference, side)
    return pair, _picture(folder, pair.picture, side), reference


def _picture(folder: Path, name: str, side: int) -> UInt8[np.ndarray, "H W 3"]:
    try:
        picture = read_picture(folder / Path(name).expanduser())
    except FileNotFoundError as error:
        raise Faulty(f"names {name}, which does not exist") from error
    except (Unreadable, ValueError) as error:
        raise Faulty(f"names {name}, which is no readable picture ({error})") from error
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


def _grouped(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """Rows of one group and text, in the order of the file."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row[0].group, row[0].text), []).append(row)
    return groups.values()


def _trial(groups: Sequence[Sequence[Row]], side: int) -> Trial:
    shape = len(groups), max(map(len, groups))
    pictures = np.zeros((*shape, side, side, 3), np.uint8)
    rank, exists = np.zeros(shape), np.zeros(shape, bool)
    kinds = [[""] * shape[1] for _ in groups]
    references: list[np.ndarray | None] = []
    for g, group in enumerate(groups):
        for n, (pair, picture, _) in enumerate(group):
            pictures[g, n], rank[g, n], exists[g, n] = picture, pair.rank, True
            kinds[g][n] = {True: RIGHT, False: "wrong", None: "ranked"}[pair.label]
        references.append(next((own for _, _, own in group if own is not None), None))
    known = [own for own in references if own is not None]
    return Trial(
        name="pairs",
        texts=tuple(group[0][0].text for group in groups),
        pictures=pictures,
        references=np.array(known) if len(known) == len(groups) else None,
        truth=Truth(rank, exists, kinds),
    )
