"""Results of tools in Markdown files, between marks that name the tool."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def put(path: Path, name: str, lines: Iterable[str]) -> None:
    """Writes lines between `<!-- NAME -->` and `<!-- /NAME -->`, in the place of what is there."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = "\n".join([first, "", *lines, "", last])
    text, count = re.subn(f"{first}.*?{last}", lambda _: block, path.read_text(), flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{path} has {count} places for {name}")
    path.write_text(text)
