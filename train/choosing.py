"""Pictures of one prompt, chosen from several by the model's own verdict."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, UInt8

from asg_jax.backbone import Params, Request, Sampler, to_uint8
from asg_jax.models.registry import Model
from asg_jax.rollout.search import Plan, search
from asg_jax.signals.selection import best_of
from asg_jax.train.drawing import draw_jitted
from asg_jax.train.verifying import Verifier

NOISE = 0.7  # of the stochastic sampler by which branches of a search differ


def choose(
    model: Model,
    params: Params,
    request: Request,
    sampler: Sampler,
    verifier: Verifier,
    key: Key[Array, ""],
    count: int,
    several: int,
    prune: bool,
) -> UInt8[np.ndarray, "N H W 3"]:
    """The best `count` of `several` times as many pictures; prints what choosing took.

    Args:
      model: draws and looks.
      params: parameters that the drawing role has.
      request: the prompt.
      sampler: how it is drawn.
      verifier: scores pictures.
      key: gives all of them.
      count: N, the pictures that are kept.
      several: how many are drawn for each that is kept.
      prune: whether drawings are dropped while they are made (`asg_jax.rollout.search`).
    """
    spec, drawn = model.backbone.spec, count * several
    whole = drawn * (sampler.steps if spec.kind == "flow" else spec.steps)
    if prune:
        if spec.kind == "flow":
            sampler = replace(sampler, noise_level=NOISE)
        plan = Plan(trajectories=drawn, survivors=count)
        judge = lambda pixels: jnp.asarray(verifier(pixels))
        found = search(model.backbone, params, request, key, sampler, plan, judge)
        pixels, scores, spent = found.pixels, found.scores, found.evaluations
    else:
        keys = jax.random.split(key, (1, drawn))
        pixels = draw_jitted(model.backbone, params, request, keys, sampler)
        seen = verifier(pixels)[0]
        best = np.asarray(best_of(jnp.asarray(seen), count))
        pixels, scores, spent = pixels[0, best], seen[best], whole
    print(
        f"{spent} network evaluations of {whole} without pruning, {verifier.looked} verdicts;"
        f" scores {', '.join(f'{score:.3f}' for score in scores.tolist())}"
    )
    return np.asarray(to_uint8(pixels))
