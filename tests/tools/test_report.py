"""Results are put between their marks, and nowhere else."""

import pytest

from tools.report import put


def test_a_block_is_replaced_in_its_place(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("one\n<!-- a -->\nold\n<!-- /a -->\ntwo\n<!-- b --><!-- /b -->\n")
    put(path, "a", ["new \\1"])
    put(path, "a", ["new \\1"])
    put(path, "b", ["more"])
    assert path.read_text() == (
        "one\n<!-- a -->\n\nnew \\1\n\n<!-- /a -->\ntwo\n<!-- b -->\n\nmore\n\n<!-- /b -->\n"
    )


def test_a_missing_place_is_told(tmp_path):
    (tmp_path / "a.md").write_text("nothing")
    with pytest.raises(ValueError, match="0 places for a"):
        put(tmp_path / "a.md", "a", [])
