"""A user's own pictures and texts, with what is known of them: lines of a JSON file."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.models.pictures import Unreadable, open_picture, read_picture
from asg_jax.models.places import place
from asg_jax.train.benchmarks.power import RIGHT, Truth
from asg_jax.train.benchmarks.trials import Trial

NAME = "pairs"  # of the set
NAMED = 5  # faulty lines that the log names; the others are counted

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A line of the file.

    Attributes:
      picture: a file; in a line a path from the folder of the JSON file on.
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


Groups = Sequence[Sequence[Pair]]  # those of one text and group together, in the file's order


def read(path: str | Path) -> Groups:
    """The pairs of a file; lines that cannot be used are logged, counted and left out.

    Pictures are opened once, so that what cannot be read is known before anything else is done.

    Args:
      path: a file of JSON objects, one a line: `picture`, `text`, `label` (true or false) or `rank`
        (a number), and if wished `group` and `reference`.

    Raises:
      UserError: the file is missing, no text, or holds nothing that could be compared.
    """
    path = place(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"{path} cannot be read ({reason}); --pairs names a JSONL file.") from error
    found: list[Pair] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                found.append(_located(parse(line), path.parent))
        except Faulty as error:
            faults.append(f"line {number} {error}")
    for fault in faults[:NAMED]:
        LOG.warning("%s: %s", path, fault)
    if faults:
        LOG.warning("%s: %d of %d lines were skipped", path, len(faults), len(lines))
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        groups.setdefault((pair.group, pair.text), []).append(pair)
    ranks = [{pair.rank for pair in group} for group in groups.values()]
    if not ({True, False} <= {pair.label for pair in found} or any(len(r) > 1 for r in ranks)):
        told = f"; {faults[0]}" if faults else ""
        raise UserError(
            f"{path} holds nothing that could be compared{told}; it takes lines labelled true and"
            " false, or lines of one text that differ in rank."
        )
    return list(groups.values())


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


def _located(pair: Pair, folder: Path) -> Pair:
    """A pair of a file in a folder with the paths of its pictures, which can be read."""
    where = lambda name: str(folder / Path(name).expanduser())
    names = [name for name in (pair.picture, pair.reference) if name is not None]
    for name in names:
        try:
            read_picture(Path(where(name)))
        except FileNotFoundError as error:
            raise Faulty(f"names {name}, which does not exist") from error
        except (Unreadable, ValueError) as error:
            raise Faulty(f"names {name}, which is no readable picture ({error})") from error
    picture, *reference = map(where, names)
    return replace(pair, picture=picture, reference=reference[0] if reference else None)


def references(groups: Groups) -> list[str] | None:
    """A reference picture of each group; None where one has none."""
    own = [[pair.reference for pair in group if pair.reference is not None] for group in groups]
    return [few[0] for few in own] if all(own) else None


def trial(groups: Groups, side: int) -> Trial:
    """Pairs with their pictures, brought to so many pixels along both sides.

    Raises:
      UserError: a picture cannot be read any more.
    """
    shape = len(groups), max(map(len, groups))
    pictures = np.zeros((*shape, side, side, 3), np.uint8)
    rank, exists = np.zeros(shape), np.zeros(shape, bool)
    kinds = [[""] * shape[1] for _ in groups]
    for g, group in enumerate(groups):
        for n, pair in enumerate(group):
            pictures[g, n] = _pixels(pair.picture, side)
            rank[g, n], exists[g, n] = pair.rank, True
            kinds[g][n] = {True: RIGHT, False: "wrong", None: "ranked"}[pair.label]
    others = references(groups)
    return Trial(
        name=NAME,
        texts=tuple(group[0].text for group in groups),
        pictures=pictures,
        references=None if others is None else np.array([_pixels(n, side) for n in others]),
        truth=Truth(rank, exists, kinds),
    )


def _pixels(name: str, side: int) -> UInt8[np.ndarray, "H W 3"]:
    return np.asarray(open_picture(name).resize((side, side), Image.Resampling.BICUBIC))
