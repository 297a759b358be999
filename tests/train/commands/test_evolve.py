"""The command: its exit status, and what it says of a finished run."""

import os
import signal

import pytest

from asg_jax import methods
from asg_jax.errors import UserError
from asg_jax.train.commands import evolve
from asg_jax.train.evolve import run
from asg_jax.train.main import main
from tests.train.evolve.fake import PRESET, FakeMethod, make_parts


@pytest.fixture
def words(tmp_path, monkeypatch):
    """What starts a short run of the fake method."""
    monkeypatch.setattr(methods, "METHODS", {"fake": PRESET}, raising=False)
    monkeypatch.setattr(run, "assemble", lambda config: make_parts(FakeMethod()))
    config = tmp_path / "fake_run.py"
    config.write_text(
        "from asg_jax.train.evolve.typed import as_config\n"
        "from tests.train.evolve.fake import CONFIG\n"
        "get_config = lambda: as_config(CONFIG)\n"
    )
    return [f"--config={config}", f"--workdir={tmp_path / 'w'}", "--config.steps=6"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_was_stopped_says_so_to_the_shell(words, monkeypatch, capsys, number):
    class Asking(FakeMethod):
        def step(self, state, examples):
            if int(state.step) == 2:
                os.kill(os.getpid(), number)
            return super().step(state, examples)

    with monkeypatch.context() as patch:
        patch.setattr(run, "assemble", lambda config: make_parts(Asking()))
        assert main(["evolve", *words]) == 128 + number
    assert "goes on from here" in capsys.readouterr().out
    assert main(["evolve", *words]) == 0
    assert "6 steps in" in capsys.readouterr().out


def test_settings_of_the_method_are_flags(words, tmp_path):
    assert evolve.main([*words, "--config.method.weights.ste=0.25", "--config.batch.micro=1"]) == 0
    text = (tmp_path / "w" / "config.json").read_text()
    assert '"ste": 0.25' in text and '"micro": 1' in text
    with pytest.raises(UserError, match="config.method.weights.ste=0.25, not 0.5"):
        evolve.main(words)


def test_a_damaged_summary_is_named_and_made_again(words, tmp_path):
    assert evolve.main(words) == 0
    (tmp_path / "w" / "summary.json").write_text("")
    with pytest.raises(UserError, match="summary.json is damaged"):
        evolve.main(words)
    (tmp_path / "w" / "summary.json").unlink()
    assert evolve.main(words) == 0
