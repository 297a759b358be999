"""The lessons of a step: contexts, texts with their targets, and pictures with their captions.

A step's lessons are a function of the seed and the step alone, so that a run can be resumed. The
labels of a scene are fixed: who meets a scene again meets the same questions and the same mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Array, Bool, Float, Int
from PIL import Image as PIL

from asg_jax.backbone import Processor, Request, host
from asg_jax.engine.texts import fit_rows
from asg_jax.models.registry import Pictures
from asg_jax.pytree import pytree
from asg_jax.train.data.captions import describe
from asg_jax.train.data.grammar import Exercise, exercise
from asg_jax.train.data.scenes import Scene, example, generator, render
from asg_jax.train.data.scenes_builder import STREAMS
from asg_jax.train.pretrain.facts import facts
from asg_jax.train.pretrain.settings import LANES, PretrainSettings

PICTURES = STREAMS["pretrain"]
# Streams of random numbers of their own for what is told of a scene, and for the order of scenes.
LABELS, CAPTIONS, ORDER = 200, 300, 400
VARIANTS = 3  # captions of one scene


@pytree
class TextLesson:
    """Texts on shared contexts.

    Attributes:
      request: contexts, pictures not yet encoded.
      ids: instruction and target, padded on the right.
      mask: which ids are real.
      target: which ids are to be learned.
    """

    request: Request
    ids: Int[Array, "B G T"]
    mask: Bool[Array, "B G T"]
    target: Bool[Array, "B G T"]


@pytree
class DrawLesson:
    """Pictures in [0, 1] and the prompts that they are drawn from."""

    request: Request
    pixels: Float[Array, "B H W 3"]


@pytree
class Lessons:
    """Everything that one step learns."""

    texts: tuple[TextLesson, ...]
    drawing: DrawLesson


@cache
def labelled(seed: int, index: int) -> tuple[Scene, PIL.Image]:
    """A scene and its picture."""
    scene, pixels = example(seed, index, PICTURES)
    return scene, PIL.fromarray(pixels)


def lessons(settings: PretrainSettings, processor: Processor, step: int) -> Lessons:
    """The lessons of one step."""
    rng = generator(settings.seed, step, ORDER)
    texts = tuple(
        _texts(settings, processor, n, rng.integers(settings.scenes, size=lane.contexts).tolist())
        for n, lane in enumerate(LANES)
    )
    return Lessons(texts, _drawing(settings, processor, rng))


def pictures(settings: PretrainSettings, batch: int, step: int) -> Pictures:
    """Pictures of one step of a stage that learns from them alone."""
    rng = generator(settings.seed, step, ORDER)
    chosen = rng.integers(settings.scenes, size=batch).tolist()
    shown = [labelled(settings.seed, index) for index in chosen]
    told = np.stack([facts(scene) for scene, _ in shown])
    return Pictures(host(_values([picture for _, picture in shown])), host(told))


def _texts(
    settings: PretrainSettings, processor: Processor, number: int, scenes: Sequence[int]
) -> TextLesson:
    lane = LANES[number]
    told = [[_exercise(settings, number, index, n) for n in range(lane.texts)] for index in scenes]
    shown = [
        [_picture(settings, index, scene) for scene in row[0].scenes[: lane.pictures]]
        for index, row in zip(scenes, told, strict=True)
    ]
    shape = (lane.contexts, lane.texts, lane.length)
    ids, mask, target = np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(shape, bool)
    for b, row in enumerate(told):
        for g, one in enumerate(row):
            asked = processor.question(one.instruction)
            said = [*processor.ids(one.target), processor.stop_ids[0]]
            end = len(asked) + len(said)
            ids[b, g, :end] = asked + said
            mask[b, g, :end] = True
            target[b, g, len(asked) : end] = True
    return TextLesson(processor.prompt(shown, "ask"), host(ids), host(mask), host(target))


def _exercise(settings: PretrainSettings, number: int, index: int, n: int) -> Exercise:
    lane = LANES[number]
    scene = labelled(settings.seed, index)[0]
    rng = generator(settings.seed, index, LABELS + number * 32 + n)
    shares = np.array([share for _, share in lane.tasks])
    task = str(rng.choice([name for name, _ in lane.tasks], p=shares / shares.sum()))
    return exercise(task, rng, settings.usage, scene)


def _picture(settings: PretrainSettings, index: int, scene: Scene) -> PIL.Image:
    """The picture of a scene, which may be another than the labelled one (two-image tasks)."""
    own, picture = labelled(settings.seed, index)
    return picture if scene == own else PIL.fromarray(render(scene, generator(0, index, PICTURES)))


def _drawing(
    settings: PretrainSettings, processor: Processor, rng: np.random.Generator
) -> DrawLesson:
    chosen = rng.integers(settings.scenes, size=settings.prompts).tolist()
    turns = []
    for index in chosen:
        own = generator(settings.seed, index, CAPTIONS + int(rng.integers(VARIANTS)))
        scene = labelled(settings.seed, index)[0]
        caption = str(describe(scene.items, own, usage=settings.usage))
        turns.append([] if rng.random() < settings.unprompted else [caption])
    pictures = [labelled(settings.seed, index)[1] for index in chosen]
    request = processor.prompt(turns, "draw")
    main = fit_rows(request.prompts.main, settings.prompt_length)
    request = replace(request, prompts=replace(request.prompts, main=main))
    return DrawLesson(request, host(_values(pictures)))


def _values(pictures: Sequence[PIL.Image]) -> Float[np.ndarray, "B H W 3"]:
    return np.stack([np.asarray(picture) for picture in pictures]).astype(np.float32) / 255
