"""The loop: a run that was stopped anyhow gives the numbers of one that was not."""

import json
import os
import signal
import time
from dataclasses import replace
from threading import Timer

import jax
import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.train.evolve.config import Replaying
from asg_jax.train.evolve.interruption import Interrupted, Interruption
from asg_jax.train.evolve.logs import read_metrics
from asg_jax.train.evolve.rehearsal import Rehearsable
from asg_jax.train.mesh import make_mesh
from tests.train.evolve.fake import CONFIG, RULES, FakeMethod, Noise, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without a stop: its folder, state and method."""
    folder, method = tmp_path_factory.mktemp("whole"), FakeMethod()
    return folder, run(folder, method)[0], method


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def told(folder):
    """The metrics of all steps, without the times."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(folder)]


def replayed(folder):
    return {path.name: path.read_bytes() for path in (folder / "replay").glob("*.png")}


@pytest.mark.parametrize("failing", [[3], [9], [13, 14, 22]])
def test_a_run_that_failed_resumes_to_the_same_bits(whole, tmp_path, failing):
    folder, state, _ = whole
    for step in failing:
        with pytest.raises(RuntimeError, match="power"):
            run(tmp_path, FakeMethod(fails=step))
    again, history = run(tmp_path, FakeMethod())
    assert_equal(again, state)
    assert told(tmp_path) == told(folder)
    assert [line["step"] for line in told(folder)] == list(range(1, CONFIG.steps + 1))
    assert history.step == CONFIG.steps
    newest = sorted(replayed(folder))[-CONFIG.replay.size :]
    assert {n: replayed(tmp_path)[n] for n in newest} == {n: replayed(folder)[n] for n in newest}


def test_a_failure_costs_the_steps_since_the_last_checkpoint_alone(whole, tmp_path):
    with pytest.raises(RuntimeError, match="power"):
        run(tmp_path, FakeMethod(fails=14))
    method = FakeMethod()
    run(tmp_path, method)
    assert method.seen == whole[2].seen[12:]


def test_a_request_to_stop_is_answered_after_the_step(whole, tmp_path):
    class Stopping(FakeMethod):
        def step(self, state, examples):
            if int(state.step) == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(state, examples)

    interruption, method = Interruption(), Stopping()
    with interruption.listening(), pytest.raises(Interrupted):
        run(tmp_path, method, interruption=interruption)
    assert len(method.seen) == 6
    method = FakeMethod()
    again, _ = run(tmp_path, method)
    assert len(method.seen) == CONFIG.steps - 6
    assert_equal(again, whole[1])


def test_a_request_is_answered_while_the_run_waits_for_pictures(whole, tmp_path):
    class Stuck(Noise):
        def __getitem__(self, index):
            if stuck:
                time.sleep(60)
            return super().__getitem__(index)

    class Counting(FakeMethod):
        def step(self, state, examples):
            if int(state.step) == 2:
                stuck.append(True)
                Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
            return super().step(state, examples)

    stuck, interruption, start = [], Interruption(), time.monotonic()
    with interruption.listening(), pytest.raises(Interrupted):
        run(tmp_path, Counting(), interruption=interruption, source=Stuck())
    assert time.monotonic() - start < 30
    again, _ = run(tmp_path, FakeMethod())
    assert_equal(again, whole[1])


def test_pictures_that_are_gone_stop_the_run_with_its_state_saved(whole, tmp_path):
    class Removing(FakeMethod):
        def step(self, state, examples):
            source.gone = int(state.step) >= 5
            return super().step(state, examples)

    source = Noise()
    with pytest.raises(UserError, match="none of 40 pictures can be read any more"):
        run(tmp_path, Removing(), source=source)
    method = FakeMethod()
    again, _ = run(tmp_path, method)
    assert method.told[0] in (7, 8)
    assert_equal(again, whole[1])


def test_other_pictures_are_noticed(tmp_path):
    run(tmp_path, FakeMethod(), replace(CONFIG, steps=5))
    words = "data.folder named .40 .*, 1. when .* names .40 .*, 3. now"
    with pytest.raises(UserError, match=words):
        run(tmp_path, FakeMethod(), source=Noise(3))


def test_an_error_beside_the_step_surfaces(tmp_path):
    class Failing(FakeMethod):
        def prepare(self, pictures):
            if self.told:
                raise ZeroDivisionError("of no picture")
            return super().prepare(pictures)

    with pytest.raises(ZeroDivisionError, match="of no picture"):
        run(tmp_path, Failing())


@pytest.mark.parametrize("rollouts", ["mesh", "pmap"])
@pytest.mark.parametrize(("fsdp", "tensor"), [(1, 4), (2, 2), (2, 4)])
def test_the_numbers_do_not_depend_on_the_mesh(whole, tmp_path, rollouts, fsdp, tensor):
    placement = Rehearsable(make_mesh(fsdp, tensor), rollouts, RULES)
    if placement.shares > 2:
        placement = Rehearsable(make_mesh(fsdp, tensor, jax.devices()[:4]), rollouts, RULES)
    state, history = run(tmp_path, FakeMethod(placement), replace(CONFIG, steps=8))
    assert history.recompilations == 0
    want = [line["reward/solver"] for line in told(whole[0])[:8]]
    np.testing.assert_allclose([line["reward/solver"] for line in told(tmp_path)], want, rtol=1e-5)
    cut = state.roles["solver"].optimizer["mu"]["layers.q"].a
    assert cut.is_fully_replicated == (fsdp == 1)


def test_a_finished_run_takes_no_step(whole, tmp_path):
    first, _ = run(tmp_path, FakeMethod())
    method = FakeMethod()
    again, _ = run(tmp_path, method)
    assert method.seen == []
    assert_equal(again, first)


def test_understanding_batches_replay_what_was_kept(whole):
    seen = whole[2].seen
    assert [len(ids) for ids in seen[:6]] == [4, 4, 4, 2, 2, 4]
    fresh = [[i for i in ids if i < 40] for ids in seen]
    assert [len(ids) for ids in fresh[:6]] == [4, 4, 4, 2, 2, 2]  # half of the batch is replayed
    assert all(max(ids) < 44 and len(set(ids)) == len(ids) for ids in seen)
    first_epoch = sum(seen[:3], [])
    assert len(set(first_epoch)) == len(first_epoch)


def test_old_replay_files_go_when_no_checkpoint_needs_them(whole):
    # Of sixteen pictures the last three are held; the checkpoint of step 16 held 9, 10 and 11.
    assert sorted(replayed(whole[0])) == [f"{number:08d}.png" for number in range(9, 16)]


def test_only_replayed_pictures_on_request(tmp_path):
    config = replace(CONFIG, steps=8, replay=Replaying(size=3, share=0.0, only=True))
    method = FakeMethod()
    run(tmp_path, method, config)
    real = [all(i < 40 for i in ids) for ids in method.seen]
    assert real == [True] * 5 + [False] * 3  # what step 4 kept is known once step 5 has begun


def test_reports_are_read_once_the_next_step_has_begun(whole):
    # Steps 4, 8, ... are saved, with what they reported.
    assert whole[2].told[:12] == [1, 2, -1, 3, -2, 4, -3, -4, 5, 6, -5, 7]


def test_numbers_that_are_not_finite_are_counted(tmp_path):
    _, history = run(tmp_path, FakeMethod(nonfinite=(2, 7)), replace(CONFIG, steps=8))
    assert history.nonfinite == 2
    assert [line["step"] for line in told(tmp_path) if line["reward/solver"] is None] == [2, 7]


def test_nothing_is_compiled_after_the_first_cycle(whole, tmp_path):
    _, history = run(tmp_path, FakeMethod(), replace(CONFIG, steps=8))
    assert history.recompilations == 0
    assert history.times["first cycle"] == 5 and history.times["understanding"] == 3

    class Changing(FakeMethod):
        def step(self, state, examples):
            if int(state.step) == 6:
                jax.jit(lambda x: x + 3)(np.ones(7))
            return super().step(state, examples)

    _, history = run(tmp_path / "changing", Changing(), replace(CONFIG, steps=8))
    assert history.recompilations == 1


def test_the_status_tells_where_a_run_stands(whole):
    status = json.loads((whole[0] / "status.json").read_text())
    assert status["state"] == "training"
    assert (status["step"], status["steps"], status["eta_seconds"]) == (23, 23, 0)
    assert status["metrics"].keys() == {"reward/solver", "check/well_formed"}
    assert list((whole[0] / "tensorboard").glob("events.*"))
