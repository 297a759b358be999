"""The prompt set and its judge: true scenes meet a prompt, scenes with one fault do not."""

from collections import Counter

import numpy as np

from asg_jax.train.data.captions import holds, parse_caption
from asg_jax.train.data.phrases import Pick
from asg_jax.train.data.scenes import COLORS, SHAPES, Item, Scene, render
from asg_jax.train.evaluate.detector import Detection, detect
from asg_jax.train.evaluate.prompts import CATEGORIES, PicturePrompt, prompt_set

SEED = 5


def draw(prompt: PicturePrompt, rng: np.random.Generator) -> Scene:
    """A scene that meets a prompt: its items in random places until they stand as they should."""
    while True:
        picks = prompt.caption.picks
        cells = rng.permutation(4)[: len(picks)].tolist()
        items = [_item(pick, cell, rng) for pick, cell in zip(picks, cells, strict=True)]
        items.sort(key=lambda item: item.cell)
        if holds(prompt.caption, items):
            return Scene(tuple(items))


def _item(pick: Pick, cell: int, rng: np.random.Generator) -> Item:
    return Item(pick.shape or rng.choice(SHAPES), pick.color or rng.choice(COLORS), cell)


def test_the_set_is_a_function_of_the_seed_and_balanced() -> None:
    prompts = prompt_set(SEED)
    assert prompts == prompt_set(SEED) and prompts != prompt_set(SEED + 1)
    assert prompts[:60] == prompt_set(SEED, 60)
    assert Counter(p.category for p in prompts) == dict.fromkeys(CATEGORIES, 150)
    assert all(parse_caption(str(p)) == p.caption for p in prompts)
    assert 0 < sum(p.held_out for p in prompts) < 200


def test_a_picture_of_the_prompt_meets_it_and_one_with_a_fault_does_not() -> None:
    rng = np.random.default_rng(SEED)
    prompts = prompt_set(SEED, 300)
    scenes = [draw(prompt, rng) for prompt in prompts]
    detections = detect(np.stack([render(scene, rng) for scene in scenes]))
    assert all(p.met(d) for p, d in zip(prompts, detections, strict=True))
    for prompt, detection in zip(prompts, detections, strict=True):
        items = detection.items
        extra = Item("circle", "red", ({0, 1, 2, 3} - {item.cell for item in items}).pop())
        assert not prompt.met(Detection(items[1:], 0))
        assert not prompt.met(Detection((*items, extra), 0))
        assert not prompt.met(Detection(items, 1))


def test_each_category_asks_for_its_own_attribute() -> None:
    circle, square = Item("circle", "red", 0), Item("square", "blue", 3)
    captions = {
        "a circle above a square": True,
        "a circle right of a square": False,
        "a square right of a circle": True,
        "a red circle and a blue square": True,
        "a blue circle and a red square": False,
        "two circles": False,
        "a circle": False,
    }
    for text, truth in captions.items():
        caption = parse_caption(text)
        assert caption is not None
        assert PicturePrompt("", caption).met(Detection((circle, square), 0)) == truth, text
