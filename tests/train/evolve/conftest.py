"""The one method of these tests."""

import pytest

from asg_jax import methods
from tests.train.evolve.fake import PRESET


@pytest.fixture
def fake_methods(monkeypatch):
    """Makes `fake` the name of a method."""
    monkeypatch.setattr(methods, "METHODS", {"fake": PRESET}, raising=False)
