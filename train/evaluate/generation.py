"""The judge of pictures: what a model draws for prompts, read by the exact detector."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key, UInt8

from asg_jax.answers import class_ids
from asg_jax.backbone import Backbone, Params, Request, Sampler, to_uint8
from asg_jax.models.registry import Model
from asg_jax.rollout.image import draw_pictures
from asg_jax.train.evaluate.batches import in_batches, item_keys
from asg_jax.train.evaluate.detector import detect
from asg_jax.train.evaluate.outcomes import Outcomes
from asg_jax.train.evaluate.prompts import STREAM, PicturePrompt, prompt_set
from asg_jax.train.evaluate.settings import EvalSettings

# Measures: the only picture of a prompt; the best of several by the judge's own verdict, which
# shows what a model could gain by choosing well.
DRAWN, BEST = "drawn", "best"


class DrawingRows(NamedTuple):
    """A picture to draw in each row."""

    request: Request
    keys: Key[Array, "B 1"]


def judge_generation(
    model: Model, params: Params, settings: EvalSettings, headroom: bool
) -> tuple[Outcomes, Outcomes | None]:
    """Asks the generator for the pictures of a seed.

    Args:
      model: backbone and processor; its own parameters are not used.
      params: the generator's.
      settings: the evaluation's.
      headroom: draw the first prompts several times.

    Returns:
      Outcomes of one picture for each prompt, and of the best of several for the first prompts.
    """
    prompts = prompt_set(settings.seed, settings.prompts)
    many = prompts[: settings.best_of_prompts]
    first = [(n, 0) for n in range(len(prompts))]
    more = [(n, k) for k in range(1, settings.best_of) for n in range(len(many))]
    wanted = np.array([*first, *more] if headroom else first)
    pictures = draw_all(model, params, prompts, wanted, settings)
    one = judge_pictures(prompts, pictures[None, : len(prompts)], settings.seed)
    if not headroom:
        return one, None
    rest = pictures[len(prompts) :].reshape(-1, len(many), *pictures.shape[1:])
    several = np.concatenate([pictures[None, : len(many)], rest])
    return one, judge_pictures(many, several, settings.seed)


def judge_pictures(
    prompts: Sequence[PicturePrompt], pictures: UInt8[np.ndarray, "K N 32 32 3"], seed: int
) -> Outcomes:
    """Whether pictures meet their prompts; one is parsable if every cell holds an item or nothing.

    Args:
      prompts: what was asked for.
      pictures: K of each prompt; if there are several, the best counts as well as the first.
      seed: gives the prompt set.
    """
    right = np.zeros(pictures.shape[:2], bool)
    clear = np.zeros_like(right)
    for k, several in enumerate(pictures):
        for n, (prompt, seen) in enumerate(zip(prompts, detect(several), strict=True)):
            right[k, n], clear[k, n] = prompt.met(seen), seen.unclear == 0
    best = {BEST: (right.max(0, keepdims=True), clear.max(0, keepdims=True))}
    measures = {DRAWN: (right[:1], clear[:1])} | (best if len(pictures) > 1 else {})
    return Outcomes(
        seed=seed,
        clusters=np.array(class_ids(map(str, prompts))),  # many prompts occur more than once
        labels={
            "category": tuple(prompt.category for prompt in prompts),
            "combination": tuple("held out" if p.held_out else "trained" for p in prompts),
        },
        right={measure: values[0] for measure, values in measures.items()},
        clear={measure: values[1] for measure, values in measures.items()},
    )


def draw_all(
    model: Model,
    params: Params,
    prompts: Sequence[PicturePrompt],
    wanted: Int[np.ndarray, "N 2"],
    settings: EvalSettings,
) -> UInt8[np.ndarray, "N 32 32 3"]:
    """Pictures of prompts; each depends on the seed and its two numbers alone.

    Args:
      model: backbone and processor.
      params: the generator's.
      prompts: all of the set.
      wanted: number of the prompt, and which of its pictures.
      settings: sampler, seed and batch size are read.
    """
    sampler = settings.sampler(model.backbone.spec)
    key = jax.random.fold_in(jax.random.key(settings.seed), STREAM)
    keys = item_keys(key, np.arange(len(prompts)), int(wanted[:, 1].max()) + 1)
    # All prompts at once are padded to one length, so that one program draws them.
    request = model.processor.prompt([[str(prompt)] for prompt in prompts], "draw")
    number, sample = wanted.T
    batch = DrawingRows(jax.tree.map(lambda x: x[number], request), keys[number, sample][:, None])
    draw = lambda rows: _draw(model.backbone, params, rows, sampler)
    return in_batches(draw, batch, settings.prompts_per_batch)


@partial(jax.jit, static_argnums=(0, 3))
def _draw(
    backbone: Backbone, params: Params, batch: DrawingRows, sampler: Sampler
) -> UInt8[Array, "B H W 3"]:
    pictures = draw_pictures(backbone, params, batch.request, batch.keys, sampler)
    return to_uint8(pictures)[:, 0]
