"""The `asg-jax` console script: finds the named command, imports it and hands it the arguments."""

import ast
import difflib
import errno
import importlib
import os
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
    """Entry point of the console script.

    A `UserError`, and what the file system refuses, becomes one line on stderr and status 2.
    """
    try:
        return run(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        text = str(error)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        refused = _refused(error)
        if refused is None:
            raise
        text = refused
    print("asg-jax:", *text.split(), file=sys.stderr)
    return 2


ADVICE = {
    errno.ENOSPC: "free some space; a run goes on with the same command",
    errno.EDQUOT: "free some space; a run goes on with the same command",
    errno.ENOENT: "name what is there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def _refused(error: BaseException | None) -> str | None:
    """What the file system refused, where that is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            names = " and ".join(str(n) for n in (error.filename, error.filename2) if n)
            advice = ADVICE.get(error.errno or 0, "choose a place that can be written")
            return f"{names + ': ' if names else ''}{error.strerror}; {advice}."
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            if os.strerror(code) in str(error):  # as libraries pass it on
                lines = [line for line in str(error).splitlines() if os.strerror(code) in line]
                advice = ADVICE.get(code, "choose a place that can be written")
                return f"{lines[0][:300]}; {advice}."
        error = error.__cause__ or error.__context__
    return None


if __name__ == "__main__":
    sys.exit(main())
