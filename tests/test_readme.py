"""What the README and docs/ show runs as it stands; what they link to is there."""

import importlib
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import asg_jax.train
from asg_jax.train import flags
from asg_jax.train.main import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
USAGE = (ROOT / "docs" / "usage.md").read_text()
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
COMMAND = re.compile(r"^    .*?\basg-jax ([a-z].*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
MOST_LINES, MOST_WORDS, FIRST_PYTHON = 110, 1000, 40


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout to the commands, and takes what they write."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(text: str) -> list[str]:
    """The lines after `asg-jax` in the indented blocks of a page, continued lines joined."""
    found = COMMAND.findall(text.replace("\\\n", " "))
    return [line.rstrip('"') if line.count('"') % 2 else line for line in found]


SHOWN = [(page.name, line) for page in PAGES for line in commands(page.read_text())]


@pytest.mark.slow
def test_the_first_steps_run_in_their_order(checkout):
    shown = commands(USAGE.split("## First steps")[1].split("\n## ")[0])
    assert len(shown) >= 7
    for command in shown:
        assert main(shlex.split(command)) == 0, command
    assert sorted(p.name for p in (checkout / "pictures").iterdir()) == ["0000.png", "0001.png"]
    assert len(list((checkout / "chosen").iterdir())) == 1


@pytest.mark.slow
def test_the_python_example_prints_what_it_says(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shown = re.search(r"print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert shown is not None
    more = "\nassert red > blue and summary['steps'] == 5"
    out = subprocess.run(
        [sys.executable, "-c", code + more],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert out.stdout.splitlines()[0] == shown[1]
    assert (tmp_path / "runs" / "short" / "summary.json").exists()


def test_the_readme_is_short_and_comes_to_the_point():
    lines = README.splitlines()
    assert len(lines) <= MOST_LINES and len(README.split()) <= MOST_WORDS
    assert lines.index("```python") < FIRST_PYTHON


class Parsed(Exception):
    """Raised in the place of a command's work."""


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_a_command_is_understood(page, command, monkeypatch):
    """Commands and flags exist and take these values; the work itself is other tests' matter."""

    def parse_alone(values, argv, usage, words=0, settings=None):
        assert flags.parse(values, argv, usage, words, settings) is not None
        if settings is not None:
            settings(values.config.to_dict())
        raise Parsed

    for module in pkgutil.walk_packages(asg_jax.train.__path__, "asg_jax.train."):
        loaded = importlib.import_module(module.name)
        if getattr(loaded, "parse", None) is flags.parse and loaded is not flags:
            monkeypatch.setattr(loaded, "parse", parse_alone)
    name, *words = shlex.split(command.replace("$", ""))
    with pytest.raises(Parsed):
        importlib.import_module(f"asg_jax.train.commands.{name}").main(words)


def anchor(heading: str) -> str:
    """What a page calls a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        file, _, place = link.partition("#")
        target = Path(os.path.normpath(page.parent / file)) if file else page
        assert target.exists(), link
        if place:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert place in map(anchor, headings), link


def test_every_page_is_found_from_the_readme():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
        paths = {Path(os.path.normpath(page.parent / link)) for link in links if link}
        waiting += [path for path in paths - seen if path.suffix == ".md" and path.exists()]
    assert set(PAGES) <= seen


def test_the_address_of_the_repository_stands_in_one_place():
    name = "github(\\.com)?/[A-Za-z0-9_-]+/asg[_-]jax"
    found = subprocess.run(
        ["git", "grep", "-lE", name], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    assert found == ["pyproject.toml"]
