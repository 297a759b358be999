"""The `asg-jax` console script: finds the named command, imports it and hands it the arguments."""

import ast
import difflib
import importlib
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import asg_jax
from asg_jax.errors import UserError
from asg_jax.train import commands

USAGE = "usage: asg-jax [--help] [--version] COMMAND [ARGUMENTS]"


def find_commands() -> dict[str, Path]:
    """Returns the source file of every command by its name, without importing any of them."""
    files = {}
    for folder in map(Path, commands.__path__):
        for module in pkgutil.iter_modules([str(folder)]):
            if not module.ispkg and not module.name.startswith("_"):
                files[module.name.replace("_", "-")] = folder / f"{module.name}.py"
    return dict(sorted(files.items()))


def help_line(source: Path) -> str:
    """Returns the first line of a module's docstring, read without importing the module."""
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8")))
    return docstring.splitlines()[0] if docstring else ""


def help_text(table: Mapping[str, Path]) -> str:
    """Returns what `asg-jax --help` prints."""
    width = max(map(len, table), default=0)
    rows = [f"  {name:<{width}}  {help_line(source)}".rstrip() for name, source in table.items()]
    footer = "`asg-jax COMMAND --help` describes one command."
    return "\n".join([USAGE, "", "commands:", *rows, "", footer])


def unknown_command(name: str, names: Sequence[str]) -> UserError:
    """Returns the error for a name that is no command, with the nearest command if one is near."""
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`asg-jax --help` lists the commands."
    return UserError(f"unknown command '{name}'; {hint}")


def run(argv: Sequence[str]) -> int:
    """Runs the command that `argv` names and returns its exit status.

    Args:
        argv: the words after `asg-jax`.

    Raises:
        UserError: if the command is unknown, or if the command raises it.
    """
    table = find_commands()
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text(table))
        return 0
    if argv[0] == "--version":
        print(f"asg-jax {asg_jax.__version__}")
        return 0
    name, *arguments = argv
    if name not in table:
        raise unknown_command(name, list(table))
    command = importlib.import_module(f"{commands.__name__}.{table[name].stem}")
    return command.main(arguments) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; a `UserError` becomes one line on stderr and status 2."""
    try:
        return run(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print("asg-jax:", *str(error).split(), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
