"""bagel-tiny evolves: killed, shared by processes, spread over devices."""

import pytest

from tests.train.evolve.evolving import Evolving

pytestmark = pytest.mark.slow


class TestBagel(Evolving):
    config = "bagel_tiny"
    model = "bagel-tiny"
    mesh = {}

    def test_parameters_may_be_cut(self, whole, tmp_path):
        self.spread(whole, tmp_path, {"fsdp": 4, "tensor": 2})
