"""Checkpoints that are damaged, gone, or half removed."""

import shutil

import jax
import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.train.evolve.checkpoints import FOLDER
from tests.train.evolve.fake import CONFIG, FakeMethod, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run, with checkpoints of steps 20 and 23, and its last state."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, run(folder, FakeMethod())[0]


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def steps(folder):
    return sorted(int(path.name) for path in (folder / FOLDER).iterdir())


def cut(path):
    """Shortens the files that hold arrays."""
    for file in path.rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])


DAMAGES = {
    "cut arrays": cut,
    "no arrays": lambda path: shutil.rmtree(path / "state"),
    "empty facts": lambda path: (path / "host" / "metadata").write_text(""),
    "other facts": lambda path: (path / "host" / "metadata").write_text('{"old": 1}'),
}


# Orbax ends its event loop while other arrays are still being read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    finished, folder, damage, capsys
):
    DAMAGES[damage](folder / FOLDER / "23")
    method = FakeMethod()
    state, _ = run(folder, method)
    assert method.told[0] == 21
    assert "23 is damaged" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, state, finished[1])
    assert steps(folder) == [20, 23]


def test_a_missing_picture_is_damage_too(finished, folder):
    (folder / "replay" / f"{15:08d}.png").unlink()  # step 20 has kept it: no checkpoint is whole
    with pytest.raises(UserError, match="no checkpoint in .* is whole; remove its folder to start"):
        run(folder, FakeMethod())
    assert steps(folder) == [20, 23]


@pytest.mark.parametrize("left", [("16",), ("12", "16"), ("4",)])
@pytest.mark.parametrize("half", [True, False])
def test_what_a_kill_left_half_removed_goes(folder, left, half):
    for step in left:
        shutil.copytree(folder / FOLDER / "20", folder / FOLDER / step)
        if half:
            shutil.rmtree(folder / FOLDER / step / "state")
    run(folder, FakeMethod())
    assert steps(folder) == [20, 23] and CONFIG.checkpoint.keep == 2
