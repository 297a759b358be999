"""The one method of these tests, and the tiny random models of those of a real one."""

import pytest

from asg_jax import methods
from tests.tiny import model
from tests.train.evolve.fake import PRESET

__all__ = ["fake_methods", "model"]


@pytest.fixture
def fake_methods(monkeypatch):
    """Makes `fake` the name of a method."""
    monkeypatch.setattr(methods, "METHODS", {"fake": PRESET}, raising=False)
