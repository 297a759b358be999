"""The leaderboard of signals follows from the reports beside it."""

import json

from asg_jax.models.registry import shipped_models
from asg_jax.signals.table import DRAWINGS
from tests.conftest import ROOT
from tools.leaderboard import CONFIGS, lines

DOCS = ROOT / "docs"
FOUND = json.loads((DOCS / "rewards.json").read_text())


def test_the_tables_are_those_of_the_reports() -> None:
    assert "\n".join(lines(FOUND)) in (DOCS / "rewards.md").read_text()


def test_every_signal_of_every_shipped_model_is_there() -> None:
    assert list(FOUND) == list(CONFIGS) == shipped_models()
    for report in FOUND.values():
        assert report["passed"] and set(report["signals"]) == set(DRAWINGS)
