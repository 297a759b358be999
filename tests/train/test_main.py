"""The command table and the console script."""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import asg_jax
from asg_jax.train import commands, main

COMMANDS = {
    "greet_all": '"""Greets.\n\nMore.\n"""\n\ndef main(argv):\n    print("hello", *argv)\n',
    "fail": '"""Fails."""\n\nfrom asg_jax.errors import UserError\n\n'
    'def main(argv):\n    raise UserError("no such file\\nname another one")\n',
    "status": '"""Returns its argument."""\n\ndef main(argv):\n    return int(argv[0])\n',
    "broken": '"""Cannot be imported."""\n\nraise RuntimeError("imported")\n',
    "_helper": '"""Is no command."""\n',
}


@pytest.fixture(autouse=True)
def command_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the example commands in place of the real ones."""
    for name, source in COMMANDS.items():
        (tmp_path / f"{name}.py").write_text(source)
        # Set, then deleted: so monkeypatch forgets the module when the test ends.
        monkeypatch.setitem(sys.modules, f"{commands.__name__}.{name}", commands)
        monkeypatch.delitem(sys.modules, f"{commands.__name__}.{name}")
    monkeypatch.setattr(commands, "__path__", [str(tmp_path)])


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_commands_without_importing_them(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == main.USAGE
    assert "  greet-all  Greets." in lines
    assert "  broken     Cannot be imported." in lines
    assert not any("helper" in line for line in lines)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"asg-jax {asg_jax.__version__}\n"


def test_arguments_reach_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["greet-all", "--name", "world"]) == 0
    assert capsys.readouterr().out == "hello --name world\n"


def test_exit_status_of_the_command_is_returned() -> None:
    assert main.main(["status", "3"]) == 3


@pytest.mark.parametrize(
    ("word", "hint"),
    [("greet-al", "did you mean 'greet-all'?"), ("zzz", "`asg-jax --help` lists the commands.")],
)
def test_unknown_command(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([word]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"asg-jax: unknown command '{word}'; {hint}\n"


def test_user_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["fail"]) == 2
    assert capsys.readouterr().err == "asg-jax: no such file name another one\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "w/a"),
            "w/a: No space left on device; f",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "w"), "w: Permission denied; choose a"),
        (
            ValueError("RESOURCE_EXHAUSTED: a\nb: No space left on device"),
            "b: No space left on",
        ),
    ],
)
def test_what_the_file_system_refuses_is_one_line(error, line, monkeypatch, capsys) -> None:
    def refuse(argv: Sequence[str]) -> int:
        raise RuntimeError("wrapped") from error

    monkeypatch.setattr(main, "run", refuse)
    assert main.main([]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"asg-jax: {line}") and printed.count("\n") == 1


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="imported"):
        main.main(["broken"])


def test_arguments_default_to_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asg-jax", "greet-all", "you"])
    assert main.main() == 0
    assert capsys.readouterr().out == "hello you\n"
