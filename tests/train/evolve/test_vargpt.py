"""vargpt-tiny evolves."""

import pytest

from tests.train.evolve.evolving import EvolvingBriefly

pytestmark = pytest.mark.slow


class TestVargpt(EvolvingBriefly):
    config = "vargpt_tiny"
    model = "vargpt-tiny"
    mesh = {"fsdp": 4, "tensor": 2}
