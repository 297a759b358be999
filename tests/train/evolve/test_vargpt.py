"""vargpt-tiny evolves: killed, shared by processes, spread over devices."""

import pytest

from tests.train.evolve.evolving import Evolving

pytestmark = pytest.mark.slow


class TestVargpt(Evolving):
    config = "vargpt_tiny"
    model = "vargpt-tiny"
    mesh = {"fsdp": 4, "tensor": 2}

    @pytest.mark.long
    def test_two_processes_give_the_losses_of_one(self, whole, tmp_path):
        super().test_two_processes_give_the_losses_of_one(whole, tmp_path)
