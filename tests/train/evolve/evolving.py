"""What a shipped model must do under the real method, for the tests of each model."""

import json
import signal
import time

import numpy as np
import pytest

from asg_jax.models import peft
from asg_jax.models.registry import open_model
from asg_jax.train.evolve.learned import ADAPTERS
from asg_jax.train.evolve.logs import read_metrics
from asg_jax.train.evolve.run import PICTURE, SUMMARY
from tests.train.evolve import launch

STEPS = 8
SETTINGS = {
    "steps": STEPS,
    "batch.understanding": 8,
    "batch.generation": 8,
    "checkpoint.every": 2,
    "method.candidates": 2,
    "method.framings": 3,
    "method.images": 2,
    "method.sampler.steps": 4,
    "eval.questions": 24,
    "eval.prompts": 12,
    "eval.votes": 2,
    "eval.best_of": 2,
    "eval.best_of_prompts": 6,
    "eval.pictures_per_batch": 6,
    "eval.prompts_per_batch": 12,
    "eval.steps": 4,
}
WORDS = [f"--config.{name}={value}" for name, value in SETTINGS.items()]

# The phase is no number, and every process looks for repetitions among its own texts alone.
APART = {"phase", "check/question_variety", "check/caption_variety"}


def start(config, folder, *words, devices=1):
    """A process that runs in a folder."""
    words = ["evolve", f"--config={config}", *WORDS, f"--workdir={folder}", *words]
    return launch.start("asg_jax.train.main", words, devices)


def metrics(folder):
    """Everything that was measured in every step, but the time."""
    return [{k: v for k, v in m.items() if k != "seconds"} for m in read_metrics(folder)]


def learned(folder):
    """The exported adapters, bit for bit."""
    files = (folder / ADAPTERS).glob("*/*.safetensors")
    return {path.parent.name: path.read_bytes() for path in files}


def assert_close(folder, other):
    """The numbers of two runs agree but for rounding."""
    for one, two in zip(metrics(folder), metrics(other), strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() - APART:
            where = f"{name} at step {one['step']}"
            np.testing.assert_allclose(one[name], two[name], rtol=1e-2, atol=1e-3, err_msg=where)


class Evolving:
    """A shipped model that is killed, shared by processes, spread over devices."""

    config: str
    model: str
    mesh: dict[str, int]  # of eight devices; the axis `data` takes what is left

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, tmp_path_factory):
        """A run of one process on one device, without a stop."""
        folder = tmp_path_factory.mktemp("whole")
        launch.end(start(cls.config, folder))
        return folder

    def test_a_run_learns_and_leaves_everything_behind(self, whole):
        summary = json.loads((whole / SUMMARY).read_text())
        assert (summary["steps"], summary["recompilations"]) == (STEPS, 0)
        assert (summary["nonfinite_steps"], summary["skipped_updates"]) == (0, 0)
        expected = {"yes_rate", "well_formed", "informative", "question_variety"}
        assert expected <= summary["checks"].keys()
        assert (whole / PICTURE).exists() and list((whole / "tensorboard").iterdir())
        model = open_model(self.model)
        for role in ("proposer", "solver", "generator"):
            adapter = peft.load(whole / ADAPTERS / role, model.base, model.official_module)
            assert any(np.abs(lora.b).max() > 0 for lora in adapter.values())

    def test_a_run_killed_three_times_ends_in_the_same_bits(self, whole, tmp_path):
        rng = np.random.default_rng()
        for _ in range(3):
            process, before = start(self.config, tmp_path), launch.step_of(tmp_path)
            launch.wait_for(tmp_path, min(before + int(rng.integers(1, 4)), STEPS - 1), process)
            time.sleep(2 * rng.random())
            process.kill()
            process.communicate(timeout=launch.LIMIT)
            assert process.returncode == -signal.SIGKILL
        launch.end(start(self.config, tmp_path))
        assert metrics(tmp_path) == metrics(whole)
        assert learned(tmp_path) == learned(whole)
        assert (tmp_path / "after.json").read_text() == (whole / "after.json").read_text()

    @pytest.mark.long
    def test_two_processes_give_the_losses_of_one(self, whole, tmp_path):
        address = launch.address()
        group = [f"--coordinator={address}", "--processes=2"]
        launch.end(*[start(self.config, tmp_path, *group, f"--process={n}") for n in range(2)])
        assert_close(tmp_path, whole)

    @pytest.mark.long
    def test_eight_devices_give_the_losses_of_one(self, whole, tmp_path):
        self.spread(whole, tmp_path, self.mesh)

    def spread(self, whole, tmp_path, mesh):
        """Runs on eight devices, and compares."""
        words = [f"--config.mesh.{axis}={size}" for axis, size in mesh.items()]
        launch.end(start(self.config, tmp_path, *words, devices=8))
        assert_close(tmp_path, whole)
        assert json.loads((tmp_path / SUMMARY).read_text())["recompilations"] == 0


class EvolvingBriefly(Evolving):
    """What all models share is tested at length on one of them."""

    @pytest.mark.long
    def test_a_run_learns_and_leaves_everything_behind(self, whole):
        super().test_a_run_learns_and_leaves_everything_behind(whole)

    @pytest.mark.long
    def test_a_run_killed_three_times_ends_in_the_same_bits(self, whole, tmp_path):
        super().test_a_run_killed_three_times_ends_in_the_same_bits(whole, tmp_path)
