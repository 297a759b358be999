"""vargpt-tiny evolves: killed, shared by processes, spread over devices."""

import pytest

from tests.train.evolve.evolving import Evolving

pytestmark = pytest.mark.slow


class TestVargpt(Evolving):
    config = "vargpt_tiny"
    model = "vargpt-tiny"
    mesh = {"fsdp": 4, "tensor": 2}
