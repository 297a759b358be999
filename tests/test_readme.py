"""What the README shows runs as it stands."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from asg_jax.train.main import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
COMMAND = re.compile(r"^    asg-jax (.*)$", re.MULTILINE)
FIRST_STEPS = README.split("## First steps")[1].split("\n## ")[0]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout to the commands, and takes what they write."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_run_in_their_order(checkout):
    commands = COMMAND.findall(FIRST_STEPS)
    assert len(commands) >= 4
    for command in commands:
        assert main(shlex.split(command)) == 0, command
    assert sorted(p.name for p in (checkout / "pictures").iterdir()) == ["0000.png", "0001.png"]


@pytest.mark.slow
def test_the_python_example_prints_what_it_says(checkout):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shown = re.search(r"print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert shown is not None
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert out.stdout.strip() == shown[1]


def test_the_commands_exist():
    names = {command.split()[0] for command in COMMAND.findall(README)}
    assert names <= {path.stem for path in (ROOT / "train" / "commands").glob("[a-z]*.py")}
