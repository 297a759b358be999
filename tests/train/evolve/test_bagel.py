"""bagel-tiny evolves: killed, shared by processes, spread over devices."""

import pytest

from tests.train.evolve import launch
from tests.train.evolve.evolving import Evolving, assert_close, start

pytestmark = pytest.mark.slow


class TestBagel(Evolving):
    config = "bagel_tiny"
    model = "bagel-tiny"
    mesh = {}

    def test_parameters_may_be_cut(self, whole, tmp_path):
        self.spread(whole, tmp_path, {"fsdp": 4, "tensor": 2})

    def test_whole_models_on_every_device_give_the_losses_of_one(self, whole, tmp_path):
        self.spread(whole, tmp_path, {"rollouts": "pmap"})

    def test_two_processes_that_share_layers_give_the_losses_of_one(self, whole, tmp_path):
        """The axis `tensor` spans them: both work on the same pictures."""
        address = launch.address()
        group = [f"--coordinator={address}", "--processes=2", "--config.mesh.tensor=2"]
        launch.end(*[start(self.config, tmp_path, *group, f"--process={n}") for n in range(2)])
        assert_close(tmp_path, whole)
