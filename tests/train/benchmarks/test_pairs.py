import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.train.benchmarks.pairs import Faulty, parse, read, trial


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, level in (("a", 10), ("b", 200), ("c", 90)):
        Image.new("RGB", (40, 24), (level, 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def write(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    told = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(told) + "\n")
    return path


def line(picture: str, text: str = "ein roter Kreis", **known: object) -> dict[str, object]:
    return {"picture": f"{picture}.png", "text": text, **known}


def test_labels_of_one_text_become_a_group(folder: Path) -> None:
    path = write(folder, line("a", label=True), line("b", label=False), line("c", "x", label=1))
    found = trial(read(path), 16)
    assert found.texts == ("ein roter Kreis", "x")
    assert found.pictures.shape == (2, 2, 16, 16, 3)
    assert found.pictures[:, 0, 0, 0, 0].tolist() == [10, 90]
    assert found.truth.rank.tolist() == [[1, 0], [1, 0]]
    assert found.truth.exists.tolist() == [[True, True], [True, False]]
    assert found.truth.right.tolist() == [[True, False], [True, False]]
    assert found.references is None


def test_ranks_and_groups(folder: Path) -> None:
    path = write(
        folder,
        line("a", rank=3, group=1),
        line("b", rank=1.5, group=1),
        line("c", rank=2, group=2),
    )
    found = trial(read(path), 8)
    assert found.truth.rank.tolist() == [[3, 1.5], [2, 0]]
    assert not found.truth.right.any()


def test_references_count_where_every_text_has_one(folder: Path) -> None:
    good, bad = line("a", label=1, reference="c.png"), line("b", label=0)
    references = trial(read(write(folder, good, bad)), 8).references
    assert references is not None and references[0, 0, 0, 0] == 90
    other = line("b", "y", label=0)
    assert trial(read(write(folder, good, bad, other)), 8).references is None


BAD = {
    "is no JSON": "{",
    "is no JSON object": "[1]",
    "has no text under 'picture'": {"text": "x", "label": 1},
    "has no text under 'text'": {"picture": "a.png", "text": " ", "label": 1},
    "has the unknown field 'lable'": line("a", lable=1),
    "has a 'label' that is neither true nor false": line("a", label="yes"),
    "has neither 'label' nor 'rank'": line("a"),
    "has a 'rank' that is no number": line("a", rank="first"),
    "names no file under 'reference'": line("a", label=1, reference=3),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_a_line_lacks_is_told(reason: str) -> None:
    bad = BAD[reason]
    with pytest.raises(Faulty, match=reason):
        parse(bad if isinstance(bad, str) else json.dumps(bad))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e99", "true"])
def test_a_rank_is_a_plain_number(number: str) -> None:
    with pytest.raises(Faulty, match="rank"):
        parse(f'{{"picture": "a", "text": "b", "rank": {number}}}')


def test_bad_lines_are_named_counted_and_skipped(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:60])
    lines = [line("a", label=1), line("b", label=0), "", "oops", line("none", label=1)]
    with caplog.at_level(logging.WARNING):
        found = trial(read(write(folder, *lines, line("torn", label=0))), 8)
    assert found.truth.exists.sum() == 2
    for told in ("line 4 is no JSON", "line 5 names none.png", "line 6 names torn.png", "3 of 6"):
        assert told in caplog.text


def test_many_bad_lines_are_not_all_printed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(write(folder, line("a", label=1), line("b", label=0), *["no"] * 50))
    assert "50 of 52 lines" in caplog.text and len(caplog.records) < 10


def test_files_without_use_are_refused_in_a_sentence(folder: Path) -> None:
    (folder / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    for path in (folder / "none.jsonl", folder, folder / "bytes.jsonl"):
        with pytest.raises(UserError, match="cannot be read"):
            read(path)
    for lines in ([""], [line("a", label=1)], ["no"], [line("a", rank=1), line("b", "x", rank=2)]):
        with pytest.raises(UserError, match="nothing that could be compared"):
            read(write(folder, *lines))


def test_pictures_are_stretched_to_the_side(folder: Path) -> None:
    found = trial(read(write(folder, line("a", label=1), line("b", label=0))), 12)
    assert found.pictures.shape[2:] == (12, 12, 3)
    assert np.ptp(found.pictures[0, 0, ..., 0]) == 0
