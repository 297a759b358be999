"""Prints the code's habits per folder: lengths, annotated parameters, docstrings. Nothing fails.

Lengths count lines that bear code: no blanks, no comments, no docstrings.
"""

import ast
import io
import math
import statistics
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("asg_jax", "models", "train", "configs", "tests")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef
SILENT = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


@dataclass
class Habits:
    """What was counted in some files."""

    file_lengths: list[int] = field(default_factory=list)
    function_lengths: list[int] = field(default_factory=list)
    annotated: list[bool] = field(default_factory=list)
    documented: list[bool] = field(default_factory=list)


def docstring_lines(tree: ast.Module) -> set[int]:
    """Returns the lines of all docstrings in a module."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | Documented) and ast.get_docstring(node) is not None:
            first = node.body[0]
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """Returns the lines that bear code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstring_lines(tree)


def parameters(function: Function) -> list[ast.arg]:
    """Returns the parameters that can be annotated: all but `self`, `cls` and names like `_`."""
    spec = function.args
    several = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
    stars = [star for star in (spec.vararg, spec.kwarg) if star is not None]
    return [arg for arg in several + stars if arg.arg not in ("self", "cls", "_")]


def public_definitions(body: Iterable[ast.stmt]) -> Iterator[Documented]:
    """Yields public classes and functions of a module, and the public methods of the classes."""
    for node in body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


def count_file(source: str, habits: Habits) -> None:
    """Adds one file to the counts."""
    tree = ast.parse(source)
    lines = code_lines(source, tree)
    habits.file_lengths.append(len(lines))
    for node in ast.walk(tree):
        if isinstance(node, Function):
            end = node.end_lineno or node.lineno
            habits.function_lengths.append(len(lines.intersection(range(node.lineno, end + 1))))
            habits.annotated += [arg.annotation is not None for arg in parameters(node)]
    definitions = public_definitions(tree.body)
    habits.documented += [ast.get_docstring(node) is not None for node in definitions]


def measure(folders: Iterable[str]) -> Habits:
    """Counts the Python files below the given top-level folders."""
    habits = Habits()
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            count_file(path.read_text(encoding="utf-8"), habits)
    return habits


def spread(lengths: list[int]) -> str:
    """Returns the median, the 95th percentile (nearest rank) and the maximum."""
    if not lengths:
        return "-"
    ranked = sorted(lengths)
    percentile = ranked[math.ceil(0.95 * len(ranked)) - 1]
    return f"{statistics.median(ranked):.0f} / {percentile} / {ranked[-1]}"


def share(marks: list[bool]) -> str:
    """Returns the share of true marks in per cent."""
    return f"{100 * sum(marks) / len(marks):.0f} %" if marks else "-"


def table_row(name: str, habits: Habits) -> tuple[str, ...]:
    """Returns one row of the table."""
    return (
        name,
        str(len(habits.file_lengths)),
        str(sum(habits.file_lengths)),
        spread(habits.file_lengths),
        spread(habits.function_lengths),
        share(habits.annotated),
        share(habits.documented),
    )


def main() -> None:
    """Prints the table."""
    head = ("folder", "files", "lines", "file med/p95/max", "function med/p95/max")
    rows = [(*head, "annotated", "documented")]
    rows += [table_row(folder, measure([folder])) for folder in FOLDERS]
    rows.append(table_row("total", measure(FOLDERS)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    main()
