"""blip3o-tiny evolves; what it shares with the others is tested at length on bagel-tiny."""

import pytest

from tests.train.evolve.evolving import Evolving

pytestmark = pytest.mark.slow


class TestBlip3o(Evolving):
    config = "blip3o_tiny"
    model = "blip3o-tiny"
    mesh = {"fsdp": 4, "tensor": 2}

    @pytest.mark.long
    def test_a_run_killed_three_times_ends_in_the_same_bits(self, whole, tmp_path):
        super().test_a_run_killed_three_times_ends_in_the_same_bits(whole, tmp_path)

    @pytest.mark.long
    def test_two_processes_give_the_losses_of_one(self, whole, tmp_path):
        super().test_two_processes_give_the_losses_of_one(whole, tmp_path)
