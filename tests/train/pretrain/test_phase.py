"""A phase whose newest checkpoints are damaged goes back to the last one that is whole."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asg_jax.errors import UserError
from asg_jax.train.pretrain.phase import Phase, run_phase

STEPS, EVERY = 9, 3  # two checkpoints are kept


def loss(trained, rest, batch, key):
    far = trained["x"] - batch - jax.random.normal(key)
    return (far**2).sum(), {"distance": far.mean()}


def end(folder, taken=None):
    """Runs the phase; the numbers it ends with."""

    def batch(n):
        if taken is not None:
            taken.append(n + 1)
        return np.float32(n)

    phase = Phase("numbers", STEPS, 0, batch, loss, optax.adam(0.1), EVERY)
    return np.asarray(run_phase(phase, {"x": jnp.zeros(4)}, {}, folder)["x"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, end(folder)


def cut(path):
    for file in path.rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])


DAMAGES = {
    "cut arrays": cut,
    "no arrays": lambda path: shutil.rmtree(path / "default"),
    "empty facts": lambda path: [file.write_text("") for file in path.rglob("_METADATA")],
}


# Orbax ends its event loop while other arrays are still being read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(whole, tmp_path, damage):
    shutil.copytree(whole[0], tmp_path / "run")
    DAMAGES[damage](tmp_path / "run" / "numbers" / str(STEPS))
    taken: list[int] = []
    np.testing.assert_array_equal(end(tmp_path / "run", taken), whole[1])
    assert min(taken) == STEPS - EVERY + 1
    saved = {int(path.name) for path in (tmp_path / "run" / "numbers").iterdir()}
    assert saved == {STEPS - EVERY, STEPS}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_any_whole_one_nothing_is_removed(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    folder = tmp_path / "run" / "numbers"
    for path in folder.iterdir():
        cut(path)
    with pytest.raises(UserError, match="no checkpoint in .*numbers is whole; remove that folder"):
        end(tmp_path / "run")
    assert {int(path.name) for path in folder.iterdir()} == {STEPS - EVERY, STEPS}
