"""The replay buffer: the newest pictures, by the same choice wherever it is made."""

import numpy as np

from asg_jax.methods.base import Kept
from asg_jax.train.evolve.replay import Replay


def kept(*values):
    """One-coloured pictures; the darkest has the lowest reward."""
    return [Kept(np.full((4, 6, 3), value, np.uint8), value / 255) for value in values]


def shades(replay):
    return [np.asarray(picture)[0, 0, 0].item() for picture in replay.pictures]


def test_the_oldest_go(tmp_path):
    replay = Replay(tmp_path, size=3, checkpoints=1)
    replay.add(kept(5, 9))
    replay.add([])
    replay.add(kept(7, 1))
    assert shades(replay) == [9, 1, 7]
    assert replay.state() == {"first": 1, "end": 4}


def test_a_restored_buffer_is_the_same(tmp_path):
    replay = Replay(tmp_path, size=3, checkpoints=1)
    replay.add(kept(5, 9, 200, 7))
    state, again = replay.state(), Replay(tmp_path, size=3, checkpoints=1)
    replay.add(kept(1, 2))  # after the checkpoint, and lost
    again.restore(state)
    assert shades(again) == [7, 9, 200]
    again.add(kept(1, 2))
    assert shades(again) == shades(replay)
    assert again.state() == replay.state()


def test_the_choice_hangs_on_seed_and_step_alone(tmp_path):
    replay = Replay(tmp_path, size=8, checkpoints=1)
    replay.add(kept(*range(8)))
    chosen = lambda seed, step: [np.asarray(p)[0, 0, 0] for p in replay.choose(4, seed, step)]
    assert chosen(0, 1) == chosen(0, 1)
    assert len({tuple(chosen(seed, step)) for seed in (0, 1) for step in (1, 2)}) > 1
    assert all(len(set(chosen(0, step))) == 4 for step in range(9))
    assert len(replay.choose(20, 0, 1)) == 20


def test_files_stay_while_a_checkpoint_needs_them(tmp_path):
    replay = Replay(tmp_path, size=2, checkpoints=1)
    numbers = lambda: sorted(int(path.stem) for path in (tmp_path / "replay").glob("*.png"))
    replay.add(kept(1, 2))
    replay.forget()
    replay.add(kept(3, 4))
    replay.forget()
    assert numbers() == [0, 1, 2, 3]  # the checkpoint before may be the last that is finished
    replay.add(kept(5, 6))
    replay.forget()
    assert numbers() == [2, 3, 4, 5]
