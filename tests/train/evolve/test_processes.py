"""Runs in processes of their own: stopped, killed, and shared by two."""

import json
import signal
import time

import jax
import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.train.evolve.checkpoints import Checkpoints
from asg_jax.train.evolve.logs import read_metrics
from asg_jax.train.evolve.processes import COUNTS, HOSTS, connect, is_one_of_several
from asg_jax.train.evolve.run import SUMMARY
from tests.train.evolve import launch
from tests.train.evolve.fake import CONFIG, FakeMethod

WORKER = "tests.train.evolve.worker"


def start(folder, seconds=0.0, devices=1):
    """A process that runs in a folder."""
    return launch.start(WORKER, [folder, seconds], devices)


def pair(folder, seconds=0.0):
    """Two processes that share a run."""
    address = launch.address()
    return [launch.start(WORKER, [folder, seconds, address, 2, n]) for n in range(2)]


def numbers(folder):
    return np.array([[m["step"], m["reward/solver"]] for m in read_metrics(folder)])


def final_state(folder):
    with Checkpoints(folder, CONFIG.checkpoint) as checkpoints:
        restored = checkpoints.restore(FakeMethod().init(0))
    assert restored is not None
    return restored[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    launch.end(start(folder))
    return folder


def test_sigterm_ends_a_run_that_goes_on_later(whole, tmp_path):
    process = start(tmp_path, 0.1)
    launch.wait_for(tmp_path, 5, process)
    process.send_signal(signal.SIGTERM)
    (said,) = launch.end(process)
    stopped = launch.step_of(tmp_path)
    assert "goes on from here" in said and 5 <= stopped < CONFIG.steps
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"
    (said,) = launch.end(start(tmp_path))
    np.testing.assert_array_equal(numbers(tmp_path), numbers(whole))
    assert (tmp_path / SUMMARY).exists()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(whole, tmp_path):
    rng = np.random.default_rng()
    for _ in range(3):
        process, before = start(tmp_path, 0.05), launch.step_of(tmp_path)
        launch.wait_for(tmp_path, before + 1 + int(rng.integers(4)), process)
        time.sleep(0.05 * rng.random())
        process.kill()
        process.communicate(timeout=launch.LIMIT)
        assert process.returncode == -signal.SIGKILL
    launch.end(start(tmp_path))
    np.testing.assert_array_equal(numbers(tmp_path), numbers(whole))
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path), final_state(whole))


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(whole, tmp_path):
    said = launch.end(*pair(tmp_path))
    assert "step 5/23" in said[0] and "step 5/23" not in said[1]
    np.testing.assert_allclose(numbers(tmp_path), numbers(whole), rtol=1e-5)
    drawn = lambda folder: {p.name: p.read_bytes() for p in (folder / "replay").iterdir()}
    assert drawn(tmp_path) == drawn(whole)


@pytest.mark.slow
def test_what_two_processes_began_one_can_end(whole, tmp_path):
    processes = pair(tmp_path, 0.1)
    launch.wait_for(tmp_path, 6, processes[0])
    processes[1].send_signal(signal.SIGTERM)  # one is asked, both stop
    launch.end(*processes)
    assert 6 <= launch.step_of(tmp_path) < CONFIG.steps
    launch.end(start(tmp_path, devices=2))
    np.testing.assert_allclose(numbers(tmp_path), numbers(whole), rtol=1e-5)


def test_the_flags_of_a_process_belong_together():
    with pytest.raises(UserError, match="belong together; give all three"):
        connect("localhost:1234", processes=2)


@pytest.mark.parametrize(
    "name, value, several",
    [
        ("SLURM_STEP_NUM_TASKS", "4", True),
        ("SLURM_STEP_NUM_TASKS", "1", False),
        ("TPU_WORKER_HOSTNAMES", "t0,t1", True),
        ("TPU_WORKER_HOSTNAMES", "localhost", False),
    ],
)
def test_a_launcher_tells_of_other_processes(monkeypatch, name, value, several):
    for other in (*COUNTS, *HOSTS):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    assert is_one_of_several() == several
