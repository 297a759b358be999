"""Scenes: determinism, the held-out combinations, corruptions that change what is told."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from asg_jax.train.data import scenes
from asg_jax.train.data.corruptions import CORRUPTIONS, content, corrupt

DIGEST = """
import hashlib
from asg_jax.train.data.scenes import example
digest = hashlib.sha256()
for n in range(50):
    scene, pixels = example(3, n)
    digest.update(repr(scene).encode() + pixels.tobytes())
print(digest.hexdigest())
"""


def test_another_process_renders_the_same_bytes() -> None:
    digest = hashlib.sha256()
    for n in range(50):
        scene, pixels = scenes.example(3, n)
        digest.update(repr(scene).encode() + pixels.tobytes())
    done = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True)
    assert done.stdout.strip() == digest.hexdigest(), done.stderr


def test_index_seed_and_stream_each_change_the_picture() -> None:
    pictures = [scenes.example(*place)[1] for place in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1))]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_training_never_shows_a_held_out_combination() -> None:
    for n in range(2000):
        scene = scenes.sample(scenes.generator(1, n))
        pairs = {(item.shape, item.color) for item in scene.items}
        assert not pairs & set(scenes.HELD_OUT)
        held = scenes.sample(scenes.generator(1, n), held_out=True)
        assert {(item.shape, item.color) for item in held.items} & set(scenes.HELD_OUT)


def test_every_allowed_combination_cell_and_count_occurs() -> None:
    several = [scenes.sample(scenes.generator(2, n)) for n in range(2000)]
    items = [item for scene in several for item in scene.items]
    assert {(item.shape, item.color) for item in items} == set(scenes.TRAINED)
    assert {(item.cell, item.size) for item in items} == {
        (cell, size) for cell in range(4) for size in scenes.SIZES
    }
    assert {len(scene.items) for scene in several} == {1, 2, 3}


def test_an_item_stays_inside_its_cell() -> None:
    for shape in scenes.SHAPES:
        whole = scenes.mask(shape, "large").sum()
        for row in (-scenes.JITTER, scenes.JITTER):
            assert scenes.mask(shape, "large", (row, row)).sum() == pytest.approx(whole)


def test_render_paints_the_colour_on_the_background() -> None:
    item = scenes.Item("square", "red", 3)
    pixels = scenes.render(scenes.Scene((item,), 50))
    assert (pixels[24, 24] == scenes.PALETTE["red"]).all()
    assert (pixels[:16] == 50).all() and (pixels[:, :16] == 50).all()
    assert (scenes.render(scenes.Scene((), 50)) == 50).all()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_changes_one_attribute(kind: str) -> None:
    for n in range(300):
        rng = scenes.generator(4, n)
        scene = scenes.sample(rng)
        other = corrupt(scene, kind, rng)
        assert content(other.items) != content(scene.items)
        assert not {(i.shape, i.color) for i in other.items} & set(scenes.HELD_OUT)
        assert (len(other.items) != len(scene.items)) == (kind == "count")
        if kind in ("color", "shape"):
            pairs = zip(scene.items, other.items, strict=True)
            changed = [(old, new) for old, new in pairs if old != new]
            ((old, new),) = changed
            assert replace(old, **{kind: getattr(new, kind)}) == new
        if kind == "position":
            looks = [sorted((i.shape, i.color, i.size) for i in s.items) for s in (scene, other)]
            assert looks[0] == looks[1]


def test_masks_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        scenes.mask("circle", "small")[0, 0] = np.float64(1)
