"""The detector on scenes of a seed that it was not tuned on, and on what is no scene."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from asg_jax.train.data.captions import holds, parse_caption
from asg_jax.train.data.corruptions import CORRUPTIONS, content, corrupt
from asg_jax.train.data.scenes import COMBINATIONS, example, generator, mask, render, window
from asg_jax.train.evaluate.detector import OTHER, detect

SEED = 20_261_121
COUNT = 3000


@pytest.fixture(scope="module")
def rendered():
    examples = [example(SEED, n, held_out=n % 2 == 1) for n in range(COUNT)]
    return [scene for scene, _ in examples], np.stack([pixels for _, pixels in examples])


def right(detections, scenes) -> float:
    """The share of pictures in which exactly the content was seen."""
    pairs = zip(detections, scenes, strict=True)
    return float(
        np.mean([not d.unclear and content(d.items) == content(s.items) for d, s in pairs])
    )


def test_true_renders_are_read_exactly(rendered) -> None:
    scenes, pixels = rendered
    detections = detect(pixels)
    assert right(detections, scenes) >= 0.995
    same = [d.items == s.items for d, s in zip(detections, scenes, strict=True)]
    assert np.mean(same) >= 0.99  # sizes and shifts as well


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_single_corruptions_are_noticed(rendered, kind: str) -> None:
    scenes, _ = rendered
    rngs = [generator(SEED, n, 9) for n in range(1000)]
    wrong = [corrupt(s, kind, r, COMBINATIONS) for s, r in zip(scenes, rngs, strict=False)]
    detections = detect(np.stack([render(s, r) for s, r in zip(wrong, rngs, strict=True)]))
    assert right(detections, scenes[:1000]) <= 0.01
    assert right(detections, wrong) >= 0.99


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_a_mild_blur_hides_nothing(rendered, radius: float) -> None:
    scenes, pixels = rendered
    blur = ImageFilter.GaussianBlur(radius)
    soft = np.stack([np.asarray(Image.fromarray(p).filter(blur)) for p in pixels[:500]])
    noise = 5 * np.random.default_rng(0).standard_normal(soft.shape)
    assert right(detect(np.clip(soft + noise, 0, 255).astype(np.uint8)), scenes[:500]) >= 0.99


def test_what_is_no_scene_is_unclear() -> None:
    pixels = np.stack([example(SEED, n)[1] for n in range(200)])
    straddling = np.roll(pixels, 8, axis=2)  # items stand across the border of two cells
    assert np.mean([d.unclear > 0 for d in detect(straddling)]) > 0.9
    painted = np.full((1, 32, 32, 3), (220, 40, 40), np.uint8)
    assert detect(painted)[0].unclear == 4
    assert detect(np.full((1, 32, 32, 3), 70, np.uint8))[0] == ((), 0)


def test_an_empty_batch_gives_nothing() -> None:
    assert detect(np.zeros((0, 32, 32, 3), np.uint8)) == []


def two(first: np.ndarray, second: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """A picture of two items, from how much of their cells they cover."""
    covered = np.zeros((32, 32, 1))
    covered[window(0)], covered[window(1)] = first[..., None], second[..., None]
    return (70 + covered * (np.array(color) - 70)).astype(np.uint8)


def test_a_color_without_a_name_is_no_color_but_hides_no_shape() -> None:
    pale = two(mask("circle", "large"), mask("cross", "large"), (240, 170, 170))
    (seen,) = detect(pale[None])
    assert [(item.shape, item.color) for item in seen.items] == [
        ("circle", OTHER),
        ("cross", OTHER),
    ]
    shows = lambda text: (caption := parse_caption(text)) and holds(caption, seen.items)
    assert seen.unclear == 0 and shows("a circle and a cross")
    assert not shows("a red circle and a cross") and not shows("a white circle and a cross")


def test_two_rounded_squares_are_no_circle_and_square() -> None:
    square, circle = mask("square", "large"), mask("circle", "large")
    mixed = lambda share: share * square + (1 - share) * circle
    tip = next(n for n in np.linspace(0, 1, 201) if shape_of(mixed(n)) == "square")
    alike = two(mixed(tip - 0.01), mixed(tip + 0.01), (220, 40, 40))
    apart = two(mixed(tip - 0.3), mixed(tip + 0.3), (220, 40, 40))
    kinds = [{item.shape for item in seen.items} for seen in detect(np.stack([alike, apart]))]
    assert len(kinds[0]) == 1 and kinds[1] == {"circle", "square"}


def shape_of(covered: np.ndarray) -> str:
    """What one item alone is taken for."""
    (seen,) = detect(two(covered, np.zeros((16, 16)), (220, 40, 40))[None])
    return seen.items[0].shape
