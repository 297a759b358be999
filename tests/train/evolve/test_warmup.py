"""Programs are compiled before the first step, and a stop meanwhile is a stop."""

import json
import signal
from typing import Any

import jax
import pytest

from asg_jax.train.evolve import run as runs
from asg_jax.train.evolve.interruption import Interrupted, Interruption
from asg_jax.train.evolve.warmup import warm_up
from tests.train.evolve.fake import CONFIG, FakeMethod, make_parts


class Rehearsing(FakeMethod):
    """Takes steps on shapes, too: it asks the examples which step it is."""

    def step(self, state, examples):
        request: Any = examples.request
        batch = self.placement.put(request["pixels"])
        stream = self.placement.put(examples.stream(0))
        rated = self._rate(state.roles["solver"].adapter, (batch, stream))
        state, metrics, _ = self._learn(jax.numpy.float32(1e-3), state, rated)
        return state, lambda: self._report(examples.step, batch, metrics)


def test_every_program_is_compiled_and_told(capsys):
    parts = make_parts(Rehearsing())
    warm_up(parts.method, parts, CONFIG, Interruption())
    *lines, last = capsys.readouterr().out.splitlines()
    programs = {line.split(" (")[0] for line in lines}
    phases = ("understanding", "generation")  # their batches differ
    assert programs == {
        f"compiled {phase}: {name}" for phase in phases for name in ("rate", "learn")
    }
    assert last.startswith("4 programs are compiled; that took ")


def test_a_stop_while_programs_are_compiled_is_a_stop(capsys):
    interruption = Interruption()
    interruption.requested = signal.SIGTERM
    parts = make_parts(Rehearsing())
    with pytest.raises(Interrupted) as stop:
        warm_up(parts.method, parts, CONFIG, interruption)
    assert stop.value.status == 128 + signal.SIGTERM
    assert "compiled" not in capsys.readouterr().out


def test_a_compiler_that_the_signal_ended_is_no_failure(tmp_path, monkeypatch):
    interruption = Interruption()

    def killed(*_):
        interruption.requested = signal.SIGINT
        raise jax.errors.JaxRuntimeError("INTERNAL: ptxas exited with non-zero error code 15")

    monkeypatch.setattr(runs, "run", killed)
    parts = make_parts(FakeMethod())
    assert runs._finish(parts, CONFIG, tmp_path, interruption, False) == 128 + signal.SIGINT
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"
