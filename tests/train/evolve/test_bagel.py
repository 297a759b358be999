"""bagel-tiny evolves: killed, shared by processes, spread over devices."""

import json

import pytest

from tests.train.evolve import launch
from tests.train.evolve.evolving import STEPS, SUMMARY, Evolving, assert_close, learned, start

pytestmark = pytest.mark.slow


class TestBagel(Evolving):
    config = "bagel_tiny"
    model = "bagel-tiny"
    mesh = {}

    @pytest.mark.long
    def test_parameters_may_be_cut(self, whole, tmp_path):
        self.spread(whole, tmp_path, {"fsdp": 4, "tensor": 2})

    @pytest.mark.long
    def test_whole_models_on_every_device_give_the_losses_of_one(self, whole, tmp_path):
        self.spread(whole, tmp_path, {"rollouts": "pmap"})

    def test_two_processes_that_share_layers_give_the_losses_of_one(self, whole, tmp_path):
        """The axis `tensor` spans them: both work on the same pictures."""
        address = launch.address()
        group = [f"--coordinator={address}", "--processes=2", "--config.mesh.tensor=2"]
        launch.end(*[start(self.config, tmp_path, *group, f"--process={n}") for n in range(2)])
        assert_close(tmp_path, whole)

    @pytest.mark.long
    def test_kernels_in_8_bits_are_cut_and_learn(self, tmp_path):
        words = ["--config.quantize=int8", "--config.mesh.fsdp=2"]
        launch.end(start(self.config, tmp_path, *words, devices=2))
        summary = json.loads((tmp_path / SUMMARY).read_text())
        assert (summary["steps"], summary["recompilations"]) == (STEPS, 0)
        assert (summary["nonfinite_steps"], summary["skipped_updates"]) == (0, 0)
        assert learned(tmp_path)
