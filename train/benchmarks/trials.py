"""Pictures of known truth that signals are tried on: renders, the model's own drawings, a user's.

The sets are functions of their seed, and bear a version: scores of two versions are not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from asg_jax.backbone import Params
from asg_jax.models.registry import Model
from asg_jax.train.benchmarks.power import RIGHT, Truth
from asg_jax.train.data.captions import Caption, holds
from asg_jax.train.data.corruptions import CORRUPTIONS, corrupt
from asg_jax.train.data.phrases import choose
from asg_jax.train.data.scenes import (
    CELLS,
    COMBINATIONS,
    JITTER,
    SHADES,
    SIZES,
    Item,
    Scene,
    render,
)
from asg_jax.train.evaluate.detector import detect
from asg_jax.train.evaluate.generation import draw_all
from asg_jax.train.evaluate.prompts import PicturePrompt, prompt_set
from asg_jax.train.evaluate.settings import EvalSettings

VERSION = 1  # of the rendered scenes, their faults and the tricks
STREAM = 200  # of random numbers, apart from those of evaluation
KINDS = (RIGHT, *CORRUPTIONS, "unrelated")
TRIES = 50  # at a fault that a caption would notice

Pictures = UInt8[np.ndarray, "G L H W 3"]


@dataclass(frozen=True)
class Trial:
    """Groups of pictures of known truth.

    Attributes:
      name: what tables call it.
      texts: G texts, one for each group.
      pictures: L for each text; those that do not exist are black.
      references: a picture of each text that is not among those scored, for signals that ask the
        same of both; None if there is none.
      truth: what is known of the pictures.
    """

    name: str
    texts: tuple[str, ...]
    pictures: Pictures
    references: UInt8[np.ndarray, "G H W 3"] | None
    truth: Truth

    def first(self, count: int) -> Trial:
        """The first groups alone."""
        truth = Truth(self.truth.rank[:count], self.truth.exists[:count], self.truth.kinds[:count])
        references = None if self.references is None else self.references[:count]
        return Trial(self.name, self.texts[:count], self.pictures[:count], references, truth)

    def enlarged(self, side: int) -> Trial:
        """The same pictures with sides of at least as many pixels, each pixel as a block."""
        rows = np.arange(side) * self.pictures.shape[2] // side
        grow = lambda x: x[..., rows, :, :][..., rows, :]
        references = None if self.references is None else grow(self.references)
        return replace(self, pictures=grow(self.pictures), references=references)


def renders(seed: int, count: int) -> Trial:
    """Scenes that meet their caption, and scenes with one fault that it would notice.

    Args:
      seed: gives everything.
      count: G.
    """
    prompts = prompt_set(seed, count)
    rngs = [np.random.default_rng([seed, STREAM, n]) for n in range(count)]
    scenes = [scene_of(p.caption, rng) for p, rng in zip(prompts, rngs, strict=True)]
    rows = [
        [scene, *(faulty(p.caption, scene, kind, rng) for kind in CORRUPTIONS), other]
        for p, scene, rng, other in zip(
            prompts, scenes, rngs, _others(prompts, scenes), strict=True
        )
    ]
    exists = np.array([[scene is not None for scene in row] for row in rows])
    draw = lambda scene, rng: render(scene or Scene(()), rng)
    return Trial(
        name="renders",
        texts=tuple(map(str, prompts)),
        pictures=np.array(
            [[draw(scene, rng) for scene in row] for row, rng in zip(rows, rngs, strict=True)]
        ),
        references=_references(prompts, rngs),
        truth=Truth(
            rank=np.tile(np.array(KINDS) == RIGHT, (count, 1)).astype(float),
            exists=exists,
            kinds=np.where(exists, np.array(KINDS), "").tolist(),
        ),
    )


def drawings(model: Model, settings: EvalSettings, count: int, images: int) -> Trial:
    """The model's own drawings, judged by the exact detector.

    Args:
      model: what draws, and what is judged.
      settings: sampler and seed are read.
      count: G.
      images: L.
    """
    prompts = prompt_set(settings.seed, count)
    wanted = np.array([(n, k) for n in range(count) for k in range(images)])
    pictures = draw_all(model, Params(model.base), prompts, wanted, settings)
    pictures = pictures.reshape(count, images, *pictures.shape[1:])
    judged = zip(prompts, pictures, strict=True)
    right = np.array([[prompt.met(seen) for seen in detect(row)] for prompt, row in judged])
    rngs = [np.random.default_rng([settings.seed, STREAM, n]) for n in range(count)]
    return Trial(
        name="drawings",
        texts=tuple(map(str, prompts)),
        pictures=pictures,
        references=_references(prompts, rngs),
        truth=Truth(
            rank=right.astype(float),
            exists=np.ones_like(right),
            kinds=np.where(right, RIGHT, "wrong").tolist(),
        ),
    )


def scene_of(caption: Caption, rng: np.random.Generator) -> Scene:
    """A scene of which a caption is true; what it leaves open is drawn at random."""
    while True:
        cells = sorted(rng.choice(len(CELLS), len(caption.picks), replace=False).tolist())
        picks = [caption.picks[n] for n in rng.permutation(len(caption.picks))]
        combinations = [
            choose(rng, [c for c in COMBINATIONS if Item(*c, cell=0) in pick]) for pick in picks
        ]
        items = tuple(
            Item(*pair, cell, choose(rng, SIZES), tuple(rng.integers(-JITTER, JITTER + 1, 2)))
            for pair, cell in zip(combinations, cells, strict=True)
        )
        if holds(caption, items):
            return Scene(items, int(rng.integers(SHADES[0], SHADES[1] + 1)))


def faulty(caption: Caption, scene: Scene, kind: str, rng: np.random.Generator) -> Scene | None:
    """The scene with one fault of which the caption is not true; None if it tells nothing of it."""
    for _ in range(TRIES):
        wrong = corrupt(scene, kind, rng, COMBINATIONS)
        if not holds(caption, wrong.items):
            return wrong
    return None


def _others(prompts: Sequence[PicturePrompt], scenes: Sequence[Scene]) -> list[Scene | None]:
    """For each prompt the next scene, made for another one, that does not meet it."""
    rows = [(*scenes[n + 1 :], *scenes[:n]) for n in range(len(scenes))]
    unmet = lambda prompt, row: (s for s in row if not holds(prompt.caption, s.items))
    return [next(unmet(p, row), None) for p, row in zip(prompts, rows, strict=True)]


def _references(
    prompts: Sequence[PicturePrompt], rngs: Sequence[np.random.Generator]
) -> UInt8[np.ndarray, "G H W 3"]:
    pairs = zip(prompts, rngs, strict=True)
    return np.array([render(scene_of(prompt.caption, rng), rng) for prompt, rng in pairs])


# What might fool a signal: (pictures, texts, rng) -> pictures that are right for no text.
Trick = Callable[[Pictures, Sequence[str], np.random.Generator], Pictures]


def blank(pictures: Pictures, texts: Sequence[str], rng: np.random.Generator) -> Pictures:
    """Grey of many levels."""
    levels = rng.integers(0, 256, (*pictures.shape[:2], 1, 1, 1))
    return np.broadcast_to(levels, pictures.shape).astype(np.uint8)


def noise(pictures: Pictures, texts: Sequence[str], rng: np.random.Generator) -> Pictures:
    """Pixels of no meaning."""
    return rng.integers(0, 256, pictures.shape).astype(np.uint8)


def written(pictures: Pictures, texts: Sequence[str], rng: np.random.Generator) -> Pictures:
    """The text itself, written into empty pictures in lines as wide as they are."""
    rows = np.zeros_like(pictures)
    for group, text in zip(rows, texts, strict=True):
        for picture in group:
            canvas = Image.new("RGB", picture.shape[1::-1])
            _write(canvas, text, int(rng.integers(0, 3)))
            picture[:] = np.asarray(canvas)
    return rows


def _write(canvas: Image.Image, text: str, margin: int) -> None:
    pen, line, y = ImageDraw.Draw(canvas), "", margin
    for word in [*text.split(), ""]:
        longer = f"{line} {word}".strip()
        if word and (not line or pen.textlength(longer) <= canvas.width - margin):
            line = longer
            continue
        pen.text((margin, y), line, fill="white")
        line, y = word, y + 11  # the height of the font that Pillow brings


TRICKS: dict[str, Trick] = {
    "blank": blank,
    "noise": noise,
    "written": written,
}


def tricked(trial: Trial, rng: np.random.Generator) -> Trial:
    """The best picture of every group beside pictures that might fool a signal."""
    groups, kinds = len(trial.texts), ("blank", "noise", "written")
    ranks = np.where(trial.truth.exists, trial.truth.rank, -np.inf)
    best = trial.pictures[np.arange(groups), ranks.argmax(1)][:, None]
    fakes = [TRICKS[kind](best, trial.texts, rng) for kind in kinds]
    rank = np.tile([1.0, 0, 0, 0], (groups, 1))
    return replace(
        trial,
        pictures=np.concatenate([best, *fakes], axis=1),
        truth=Truth(rank, np.ones(rank.shape, bool), [[RIGHT, *kinds]] * groups),
    )
