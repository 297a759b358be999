"""blip3o-tiny evolves."""

import pytest

from tests.train.evolve.evolving import EvolvingBriefly

pytestmark = pytest.mark.slow


class TestBlip3o(EvolvingBriefly):
    config = "blip3o_tiny"
    model = "blip3o-tiny"
    mesh = {"fsdp": 4, "tensor": 2}
