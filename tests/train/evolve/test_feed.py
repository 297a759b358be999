"""Examples of steps: the same whoever takes them, and what happens when pictures are gone."""

import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from asg_jax.engine.method import Kept
from asg_jax.errors import UserError
from asg_jax.train.evolve.config import Data, Replaying
from asg_jax.train.evolve.feed import Feed, form, square
from asg_jax.train.evolve.replay import Replay
from asg_jax.train.mesh import Share
from tests.train.evolve.fake import CONFIG, FakeMethod, Noise

SQUARE = replace(CONFIG, data=Data(side=8))


def feed(folder, source=None, config=SQUARE, share=None):
    replay = Replay(folder, config.replay.size, config.checkpoint.keep)
    return Feed(source or Noise(), replay, config, FakeMethod(), share or Share())


def pixels(examples):
    return examples.request["pixels"]


def take(feed, step):
    feed.load(step)
    feed.complete(step)
    return feed.take()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The examples of the first seven steps."""
    whole = feed(tmp_path_factory.mktemp("alone"), Noise(10))
    return [take(whole, step) for step in range(1, 8)]


def test_an_epoch_has_every_picture_once(alone):
    assert [len(examples.ids) for examples in alone] == [4, 4, 4, 2, 2, 4, 4]
    seen = [number for examples in alone for number in examples.ids]
    assert len(set(seen)) == len(seen) and set(seen) <= set(range(40))


def test_a_step_can_be_taken_without_those_before(alone, tmp_path):
    assert take(feed(tmp_path, Noise(10)), 6).ids == alone[5].ids


@pytest.mark.parametrize("parts", [((0,), (1,)), ((0, 2), (1, 3))])
def test_processes_take_their_rows_of_the_same_batch(alone, tmp_path, parts):
    count = sum(map(len, parts))
    step = 1 if count == 4 else 4
    want = alone[step - 1]
    for own in parts:
        examples = take(feed(tmp_path, Noise(10), share=Share(own, count)), step)
        assert examples.ids == tuple(want.ids[row] for row in examples.rows)
        rows = pixels(want)[list(examples.rows)]
        np.testing.assert_array_equal(pixels(examples), rows)


def test_pictures_are_brought_to_one_size(alone, tmp_path):
    assert {pixels(examples).shape[1:] for examples in alone} == {(8, 8, 3)}
    stripes = np.zeros((10, 40, 3), np.uint8)
    stripes[:, 15:25] = 255  # the middle stays
    assert np.asarray(square(Image.fromarray(stripes), 20)).mean() > 240
    as_they_are = take(feed(tmp_path, Noise(10), CONFIG), 1)
    assert form(as_they_are) != form(alone[0]) == form(alone[1])


def test_a_picture_that_went_bad_is_passed_over(tmp_path):
    class Holes(Noise):
        def __getitem__(self, index):
            return None if index.__index__() % 2 else super().__getitem__(index)

    ids = [number for step in (1, 2, 3) for number in take(feed(tmp_path, Holes()), step).ids]
    assert len(ids) == 12 and not any(number % 2 for number in ids)


def test_when_no_picture_can_be_read_the_feed_says_so(tmp_path):
    source = Noise()
    source.gone = True
    empty = feed(tmp_path, source)
    empty.load(1)
    empty.complete(1)
    while not empty.ready(1):
        pass
    assert isinstance(empty.fault, UserError)
    assert "none of 40 pictures can be read any more" in str(empty.fault)


def test_no_more_is_decoded_than_the_batch_that_comes(tmp_path):
    class Counting(Noise):
        read: list[int] = []

        def __getitem__(self, index):
            self.read.append(index.__index__())
            return super().__getitem__(index)

    source = Counting()
    fed = feed(tmp_path, source)
    for step, total in enumerate([4, 8, 12, 14, 16], 1):
        take(fed, step)
        assert len(source.read) == total


def test_waiting_ends_in_time(tmp_path):
    class Slow(Noise):
        def __getitem__(self, index):
            time.sleep(0.5)
            return super().__getitem__(index)

    slow = feed(tmp_path, Slow())
    slow.load(1)
    slow.complete(1)
    start = time.perf_counter()
    assert not slow.ready(0.05) and slow.fault is None and time.perf_counter() - start < 0.4
    assert len(slow.take().ids) == 4


@pytest.mark.parametrize(("share", "count"), [(0.4, 2), (0.1, 0), (1.0, 4)])
def test_a_share_of_the_batch_is_replayed(tmp_path, share, count):
    config = replace(SQUARE, replay=Replaying(size=8, share=share))
    whole = feed(tmp_path, config=config)
    drawn = [Kept(np.full((9, 12, 3), n, np.uint8), n) for n in range(6)]
    whole.replay.add(1, drawn)
    examples = take(whole, 3)
    assert [number >= 40 for number in examples.ids] == [False] * (4 - count) + [True] * count
    assert examples.ids[4 - count :] == tuple(range(44 - count, 44))
    assert pixels(examples).shape == (4, 8, 8, 3)
