"""Runs in processes of their own: stopped, killed, and shared by two."""

import json
import signal
import time

import jax
import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.train.evolve.checkpoints import FOLDER, Checkpoints
from asg_jax.train.evolve.logs import read_metrics
from asg_jax.train.evolve.processes import COUNTS, HOSTS, connect, is_one_of_several
from asg_jax.train.evolve.run import SUMMARY
from tests.train.evolve import launch
from tests.train.evolve.fake import CONFIG, FakeMethod

WORKER = "tests.train.evolve.worker"


def start(folder, devices=1, **options):
    """A process that runs in a folder."""
    return launch.start(WORKER, [folder, json.dumps(options)], devices)


def pair(folder, devices=1, **options):
    """Two processes that share a run."""
    address = launch.address()
    return [start(folder, devices, group=[address, 2, n], **options) for n in range(2)]


def numbers(folder):
    return np.array([[m["step"], m["reward/solver"]] for m in read_metrics(folder)])


def drawn(folder):
    return {path.name: path.read_bytes() for path in (folder / "replay").iterdir()}


def final_state(folder):
    with Checkpoints(folder, CONFIG.checkpoint) as checkpoints:
        state = checkpoints.restore(FakeMethod().init(0), lambda host: None)
    assert state is not None
    return state


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    launch.end(start(folder))
    return folder


def test_sigterm_ends_a_run_that_goes_on_later(whole, tmp_path):
    process = start(tmp_path, seconds=0.1)
    launch.wait_for(tmp_path, 5, process)
    process.send_signal(signal.SIGTERM)
    (said,) = launch.end(process, status=128 + signal.SIGTERM)
    stopped = launch.step_of(tmp_path)
    assert "goes on from here" in said and 5 <= stopped < CONFIG.steps
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"
    launch.end(start(tmp_path))
    np.testing.assert_array_equal(numbers(tmp_path), numbers(whole))
    assert (tmp_path / SUMMARY).exists()


def test_a_second_start_is_refused_and_changes_nothing(whole, tmp_path):
    process = start(tmp_path, seconds=2)
    launch.wait_for(tmp_path, 1, process)
    (said,) = launch.end(start(tmp_path), status=1)
    assert f"another process ({process.pid} on" in said and "Traceback" not in said
    process.kill()
    process.communicate(timeout=launch.LIMIT)
    launch.end(start(tmp_path))  # the lock has died with its owner
    np.testing.assert_array_equal(numbers(tmp_path), numbers(whole))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(whole, tmp_path):
    rng = np.random.default_rng()
    for _ in range(3):
        process, before = start(tmp_path, seconds=0.05), launch.step_of(tmp_path)
        launch.wait_for(tmp_path, before + 1 + int(rng.integers(4)), process)
        time.sleep(0.05 * rng.random())
        process.kill()
        process.communicate(timeout=launch.LIMIT)
        assert process.returncode == -signal.SIGKILL
    launch.end(start(tmp_path))
    np.testing.assert_array_equal(numbers(tmp_path), numbers(whole))
    jax.tree.map(np.testing.assert_array_equal, final_state(tmp_path), final_state(whole))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "mesh"),
    [
        (1, {}),
        (1, {"fsdp": 2}),
        (1, {"tensor": 2}),  # the processes share all rows
        (2, {"fsdp": 2, "tensor": 2, "rollouts": "pmap"}),
        (2, {"tensor": 2}),
        (2, {"tensor": 4}),
    ],
)
def test_two_processes_give_the_numbers_of_one(tmp_path, devices, mesh):
    options = {"mesh": mesh, "sizes": 10, "side": 8}
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    launch.end(start(alone, sizes=10, side=8))
    said = launch.end(*pair(shared, devices, **options))
    assert "step 5/23" in said[0] and "step 5/23" not in said[1]
    np.testing.assert_allclose(numbers(shared), numbers(alone), rtol=1e-5)
    assert drawn(shared) == drawn(alone)


@pytest.mark.slow
def test_pictures_of_several_sizes_are_refused_where_programs_would_differ(tmp_path):
    launch.end(start(tmp_path / "alone", sizes=10))
    said = launch.end(*pair(tmp_path / "shared", sizes=10), status=1)
    assert all("bring them to one size with --config.data.side" in text for text in said)


@pytest.mark.slow
def test_what_two_processes_began_one_can_end(whole, tmp_path):
    processes = pair(tmp_path, seconds=0.1)
    launch.wait_for(tmp_path, 6, processes[0])
    processes[1].send_signal(signal.SIGTERM)  # one is asked, both stop
    launch.end(*processes, status=128 + signal.SIGTERM)
    assert 6 <= launch.step_of(tmp_path) < CONFIG.steps
    launch.end(start(tmp_path, devices=2))
    np.testing.assert_allclose(numbers(tmp_path), numbers(whole), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_go_back_from_a_damaged_checkpoint(whole, tmp_path):
    launch.end(*pair(tmp_path))
    (tmp_path / SUMMARY).unlink()
    for file in (tmp_path / FOLDER / str(CONFIG.steps)).rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])
    said = launch.end(*pair(tmp_path))
    assert f"{CONFIG.steps} is damaged" in said[0] and "is damaged" not in said[1]
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
