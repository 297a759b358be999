"""Shows whether a model's own judge can teach its Generator, before a long run is paid for.

    python tools/probe_judge.py bagel_tiny 8
    python tools/probe_judge.py blip3o_tiny 8 runs/blip3o_tiny_pretrain/model

draws what the first generation steps of a config would draw, and compares the rewards with the
exact detector: how they correlate among the drawings of one caption, and whether the update points
the same way as it would with the detector's verdicts as rewards.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from asg_jax.backbone import Adapter, Backbone, PyTree
from asg_jax.engine.method import Examples
from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.placement import OneDevice
from asg_jax.methods.asg import Asg, Settings
from asg_jax.methods.asg.generation.device import judge, make_lesson
from asg_jax.models.registry import open_model
from asg_jax.objectives.drawings import DrawingLesson, Painter
from asg_jax.prompts import LANGUAGES
from asg_jax.train.data.captions import holds, parse_caption
from asg_jax.train.data.scenes import example
from asg_jax.train.data.scenes_builder import STREAMS
from asg_jax.train.evaluate.detector import detect
from asg_jax.train.evolve.config import RunConfig, read
from asg_jax.train.flags import load_config

SHUFFLES = 8  # of the rewards, to know what a cosine is worth


def verdicts(captions: Sequence[str | None], pictures: np.ndarray) -> Float[np.ndarray, "B L"]:
    """1 where a drawing shows its caption and nothing else, by the exact detector."""
    batch, images = pictures.shape[:2]
    seen = detect(pictures.reshape(-1, *pictures.shape[2:]))
    asked = [parse_caption(text or "") for text in captions]
    right = [
        caption is not None and found.unclear == 0 and holds(caption, found.items)
        for caption, found in zip(np.repeat(np.array(asked, object), images), seen, strict=True)
    ]
    return np.array(right, np.float32).reshape(batch, images)


def loss(
    backbone: Backbone,
    settings: Settings,
    adapter: Adapter,
    base: PyTree,
    anchor: Adapter | None,
    lesson: DrawingLesson,
) -> Float[Array, ""]:
    """The Generator's loss without its drift."""
    painter = Painter(backbone, settings.sampler, base, anchor)
    found = settings.generator.objective.losses(painter, adapter, lesson, 0.0)
    return jnp.where(found.kept, found.values, 0).sum() / jnp.maximum(found.kept.sum(), 1)


def flat(tree: PyTree) -> Float[np.ndarray, " N"]:
    """All numbers of a tree."""
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of the angle between two arrays; 0 if one of them is 0."""
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / norms) if norms else 0.0


def centred(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Differences from the mean of each group; 0 where the mask is not set."""
    mean = (values * mask).sum(1, keepdims=True) / np.maximum(mask.sum(1, keepdims=True), 1)
    return np.where(mask, values - mean, 0)


def pictures(config: RunConfig, asg: Asg, step: int) -> Examples:
    """Scenes of a step that no model was pre-trained on."""
    count = config.batch.generation
    ids = tuple(range(step * count, (step + 1) * count))
    shown = [Image.fromarray(example(config.seed, n, STREAMS["train"])[1]) for n in ids]
    return Examples(config.seed, step + 1, ids, tuple(range(count)), asg.prepare(shown))


def probe(config: RunConfig, steps: int) -> dict[str, Any]:
    """Compares a model's rewards with the exact detector's verdicts.

    Args:
      config: a run's settings, in the language of scenes.
      steps: generation steps that are drawn; nothing is learned.

    Returns:
      `right`: share of the drawings that the detector accepts; `accepted`: of the captions whose
      questions are fit; `correlation`: of reward and verdict inside groups; `cosine`: of the
      updates' sums by rewards and by verdicts, less what both do without any reward; `chance`: the
      same for rewards that are shuffled among the drawings of a caption, which need not be 0, for
      the updates of all drawings have much in common.
    """
    model = open_model(config.model)
    unified = UnifiedModel(model.backbone, model.base, model.processor, model.family.roles)
    sizes = {"understanding": config.batch.understanding, "generation": config.batch.generation}
    asg = Asg(unified, LANGUAGES[config.language], config.method, sizes, OneDevice())
    state = asg.init(config.seed)
    gradient = jax.jit(jax.grad(partial(loss, model.backbone, asg.settings)))
    adapter, anchor = state.roles["generator"].adapter, state.memory.anchor
    rng, found, sums = np.random.default_rng(config.seed), [], np.zeros(())
    for step in range(steps):
        moment = asg.engine.moment(pictures(config, asg, step))
        results, notes = asg.loops["generation"].gather(state, moment)
        judged = jax.jit(partial(judge, asg.settings))(results)
        truth = verdicts(notes.captions, np.asarray(results.drawn.pictures))
        reward, mask = np.asarray(judged.reward), np.asarray(judged.mask)
        shuffled = [rng.permuted(reward, axis=1) for _ in range(SHUFFLES)]
        ways = (np.zeros_like(reward), reward, truth, *shuffled)
        lessons = [
            make_lesson(asg.settings, results, judged._replace(reward=jnp.asarray(way)))
            for way in ways
        ]
        slopes = [flat(gradient(adapter, model.base, anchor, lesson)) for lesson in lessons]
        sums = sums + np.stack(slopes)
        found.append((centred(reward, mask), centred(truth, mask), truth, mask))
    rewards, truths, right, masks = (np.concatenate(part) for part in zip(*found, strict=True))
    by_reward, by_truth, *by_chance = sums[1:] - sums[0]
    chance = [cosine(one, by_truth) for one in by_chance]
    return {
        "drawings": int(right.size),
        "right": float(right.mean()),
        "accepted": float(masks.any(1).mean()),
        "correlation": cosine(rewards, truths),
        "cosine": cosine(by_reward, by_truth),
        "chance": {"mean": float(np.mean(chance)), "most": max(chance)},
    }


def main(name: str, steps: str, model: str = "") -> None:
    """Prints what the probe of a config finds."""
    config = read(load_config(name).to_dict())
    found = probe(replace(config, model=model or config.model), int(steps))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
