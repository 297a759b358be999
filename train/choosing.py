"""Pictures of one prompt, chosen from several by the model's own verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from asg_jax.backbone import Params, Request, Sampler, Spec, to_uint8
from asg_jax.models.registry import Model
from asg_jax.rollout.search import Plan, Search, search
from asg_jax.signals.selection import best_of
from asg_jax.train.drawing import draw_jitted

NOISE = 0.7  # of the stochastic sampler by which branches of a search differ

# Scores of N pictures of a prompt, the higher the better.
Verdict = Callable[[Float[Array, "1 N H W 3"]], Float[np.ndarray, "1 N"]]


def choose(
    model: Model,
    params: Params,
    request: Request,
    sampler: Sampler,
    verdict: Verdict,
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
      verdict: scores pictures.
      key: gives all of them.
      count: N, the pictures that are kept.
      several: how many are drawn for each that is kept.
      prune: whether drawings are dropped while they are made (`asg_jax.rollout.search`).
    """
    drawn = count * several
    whole = drawn * steps_of(model.backbone.spec, sampler)
    if prune:
        found = pruned(model, params, request, sampler, verdict, key, plan_of(drawn, count))
    else:
        keys = jax.random.split(key, (1, drawn))
        pixels = draw_jitted(model.backbone, params, request, keys, sampler)
        seen = verdict(pixels)[0]
        best = np.asarray(best_of(jnp.asarray(seen), count))
        found = Search(pixels[0, best], seen[best], whole, drawn)
    print(
        f"{found.evaluations} network evaluations of {whole} without pruning,"
        f" {found.verdicts} verdicts;"
        f" scores {', '.join(f'{score:.3f}' for score in found.scores[:count].tolist())}"
    )
    return np.asarray(to_uint8(found.pixels[:count]))


def plan_of(drawn: int, count: int) -> Plan:
    """A search that begins with some drawings and gives `count`; a quarter survives, or these."""
    return Plan(trajectories=drawn, survivors=max(count, drawn // 4))


def pruned(
    model: Model,
    params: Params,
    request: Request,
    sampler: Sampler,
    verdict: Verdict,
    key: Key[Array, ""],
    plan: Plan,
) -> Search:
    """`asg_jax.rollout.search.search`, whose flows get the noise that it needs."""
    if model.backbone.spec.kind == "flow":
        sampler = replace(sampler, noise_level=NOISE)
    judge = lambda pixels: jnp.asarray(verdict(pixels))
    return search(model.backbone, params, request, key, sampler, plan, judge)


def steps_of(spec: Spec, sampler: Sampler) -> int:
    """Network evaluations of a drawing."""
    return sampler.steps if spec.kind == "flow" else spec.steps
