"""Prompt files of benchmarks of drawings, and the folders of pictures that their scorers read.

GenEval (github.com/djghosh13/geneval): JSON lines with a `prompt`; NNNNN/metadata.jsonl holds the
line, NNNNN/samples/00000.png and on the pictures.
DPG-Bench (github.com/TencentQQGYLab/ELLA): a folder with one prompt in each ID.txt, or the table
dpg_bench.csv; ID.png holds four pictures, two by two.
WISE (github.com/PKU-YuanGroup/WISE): a JSON list with `prompt_id` and `Prompt`; ID.png holds one.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from asg_jax.errors import UserError
from asg_jax.models.pictures import to_picture
from asg_jax.models.places import write_file

Pictures = UInt8[np.ndarray, "count H W 3"]
LONGEST_FIELD = 10_000_000  # characters of a field of a table
_SAFE = re.compile(r"\w[\w.-]*")


class PromptItem(NamedTuple):
    """One prompt.

    Attributes:
      name: how its file or folder is called.
      prompt: what is drawn.
      line: as the prompt file has it.
    """

    name: str
    prompt: str
    line: Any


@dataclass(frozen=True)
class PromptLayout:
    """What a scorer reads.

    Attributes:
      read: the items of a prompt file or folder.
      mark: path of the file, below the output folder, that is written last of an item.
      save: writes the pictures of an item into the output folder.
      count: pictures per prompt; None leaves it to the user.
    """

    read: Callable[[Path], list[PromptItem]]
    mark: Callable[[PromptItem], str]
    save: Callable[[Path, PromptItem, Pictures], None]
    count: int | None


def read_items(layout: PromptLayout, path: Path) -> list[PromptItem]:
    """The prompts of a file, in order.

    Raises:
      UserError: it is not there, is of another format, or names a file twice or outside the folder.
    """
    try:
        items = layout.read(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a prompt file of the benchmark.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(
            f"{path} is no prompt file of that layout ({error!r}); take the benchmark's own."
        ) from error
    seen: set[str] = set()
    for item in items:
        if not isinstance(item.prompt, str) or not item.prompt.strip():
            raise UserError(f"{path} has no prompt for {item.name}; restore it.")
        if not _SAFE.fullmatch(item.name) or item.name in seen:
            raise UserError(f"{path} names {item.name!r} twice, or it is no name of a file.")
        seen.add(item.name)
    if not items:
        raise UserError(f"{path} holds no prompts; take the benchmark's own file.")
    return items


def _geneval(path: Path) -> list[PromptItem]:
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [PromptItem(f"{n:05d}", line["prompt"], line) for n, line in enumerate(lines)]


def _dpg(path: Path) -> list[PromptItem]:
    if path.is_dir():
        files = sorted(path.glob("*.txt"))
        return [PromptItem(file.stem, file.read_text().strip(), None) for file in files]
    csv.field_size_limit(LONGEST_FIELD)
    with path.open(newline="") as file:  # a row for every question on a prompt
        texts = {row["item_id"]: row["text"] for row in csv.DictReader(file)}
    return [PromptItem(name, text, None) for name, text in texts.items()]


def _wise(path: Path) -> list[PromptItem]:
    lines: list[Mapping[str, Any]] = json.loads(path.read_text())
    return [PromptItem(str(line["prompt_id"]), line["Prompt"], line) for line in lines]


def _save_geneval(folder: Path, item: PromptItem, pictures: Pictures) -> None:
    samples = folder / item.name / "samples"
    samples.mkdir(parents=True, exist_ok=True)
    for n, pixels in enumerate(pictures):
        write_file(samples / f"{n:05d}.png", _png(pixels))
    write_file(folder / item.name / "metadata.jsonl", json.dumps(item.line).encode())


def _save_grid(folder: Path, item: PromptItem, pictures: Pictures) -> None:
    grid = rearrange(pictures, "(row column) h w c -> (row h) (column w) c", row=2)
    write_file(folder / f"{item.name}.png", _png(grid))


def _save_one(folder: Path, item: PromptItem, pictures: Pictures) -> None:
    write_file(folder / f"{item.name}.png", _png(pictures[0]))


def _png(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    file = BytesIO()
    to_picture(pixels).save(file, "png")
    return file.getvalue()


_picture = lambda item: f"{item.name}.png"
LAYOUTS = {
    "geneval": PromptLayout(
        _geneval, lambda item: f"{item.name}/metadata.jsonl", _save_geneval, None
    ),
    "dpg": PromptLayout(_dpg, _picture, _save_grid, 4),
    "wise": PromptLayout(_wise, _picture, _save_one, 1),
}


def batches(numbers: Sequence[int], size: int) -> Iterable[list[int]]:
    """Numbers of prompts that are drawn together; the last one again to fill the last batch."""
    for start in range(0, len(numbers), size):
        some = list(numbers[start : start + size])
        yield some + some[-1:] * (size - len(some) if len(numbers) > size else 0)
