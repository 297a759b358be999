"""The replay buffer: the newest pictures, by the same choice wherever it is made."""

import numpy as np
import pytest

from asg_jax.engine.method import Kept
from asg_jax.errors import UserError
from asg_jax.train.evolve.replay import Replay, checksum


def kept(*values):
    """One-coloured pictures; the darkest has the lowest reward."""
    return [Kept(np.full((4, 6, 3), value, np.uint8), value / 255) for value in values]


def shades(replay):
    return [np.asarray(one.picture)[0, 0, 0].item() for one in replay.drawn]


def held(replay, step):
    return [np.asarray(picture)[0, 0, 0].item() for picture in replay.held(step)]


def test_the_oldest_go(tmp_path):
    replay = Replay(tmp_path, size=3, checkpoints=1)
    replay.add(1, kept(5, 9))
    replay.add(2, [])
    replay.add(3, kept(7, 1))
    assert held(replay, 5) == [9, 1, 7]
    replay.add(4, [])
    assert shades(replay) == [9, 1, 7]
    marks = [checksum(one.picture) for one in replay.drawn]
    assert replay.state() == {"first": 1, "steps": [1, 3, 3], "checksums": marks}
    assert len(set(marks)) == 3


def test_a_step_chooses_the_same_whenever_the_report_before_it_was_read(tmp_path):
    early, late = (Replay(tmp_path / name, size=2, checkpoints=1) for name in ("early", "late"))
    for replay in (early, late):
        (tmp_path / "early").mkdir(exist_ok=True)
        (tmp_path / "late").mkdir(exist_ok=True)
        replay.add(1, kept(5, 9))
    early.add(2, kept(7))  # read before a checkpoint
    assert held(early, 3) == held(late, 3) == [5, 9]
    late.add(2, kept(7))
    assert held(early, 4) == held(late, 4) == [9, 7]


def test_a_restored_buffer_is_the_same(tmp_path):
    replay = Replay(tmp_path, size=3, checkpoints=1)
    replay.add(1, kept(5, 9, 200, 7))
    state, again = replay.state(), Replay(tmp_path, size=3, checkpoints=1)
    replay.add(2, kept(1, 2))  # after the checkpoint, and lost
    again.restore(state)
    assert held(again, 3) == [7, 9, 200]
    again.add(2, kept(1, 2))
    assert shades(again) == shades(replay)
    assert again.state() == replay.state()


def test_a_missing_picture_is_named(tmp_path):
    replay = Replay(tmp_path, size=3, checkpoints=1)
    replay.add(1, kept(5, 9))
    state, folder = replay.state(), tmp_path / "replay"
    whole = (folder / "00000001.png").read_bytes()
    for other in (b"no picture", (folder / "00000000.png").read_bytes()):
        (folder / "00000001.png").write_bytes(other)
        with pytest.raises(UserError, match="00000001.png is damaged .*put a copy of it back"):
            replay.restore(state)
    (folder / "00000001.png").write_bytes(whole)
    replay.restore(state)


def test_the_choice_hangs_on_seed_and_step_alone(tmp_path):
    replay = Replay(tmp_path, size=8, checkpoints=1)
    replay.add(1, kept(*range(8)))
    chosen = lambda seed, step: [np.asarray(p)[0, 0, 0] for p in replay.choose(4, seed, step)]
    assert chosen(0, 3) == chosen(0, 3)
    assert len({tuple(chosen(seed, step)) for seed in (0, 1) for step in (3, 4)}) > 1
    assert all(len(set(chosen(0, step))) == 4 for step in range(3, 12))
    assert len(set(map(int, np.asarray(replay.choose(8, 0, 3))[:, 0, 0, 0]))) == 8
    assert len(replay.choose(20, 0, 3)) == 20


def test_files_stay_while_a_checkpoint_needs_them(tmp_path):
    replay = Replay(tmp_path, size=2, checkpoints=1)
    numbers = lambda: sorted(int(path.stem) for path in (tmp_path / "replay").glob("*.png"))
    for step, values in ((1, (1, 2)), (3, (3, 4)), (5, (5, 6)), (7, ())):
        replay.add(step, kept(*values))
        replay.forget()
    # The checkpoint before may be the last that is finished; it held 2 and 3, and 4 and 5 as new.
    assert numbers() == [2, 3, 4, 5]
