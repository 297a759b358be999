"""Pictures of one prompt, chosen from several by the model's own verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, UInt8

from asg_jax.backbone import Params, Request, Sampler, Spec, to_uint8
from asg_jax.models.registry import Model
from asg_jax.rollout.image import draw_pictures
from asg_jax.rollout.search import Plan, search
from asg_jax.signals.selection import best_of
from asg_jax.train.verifying import Verifier

NOISE = 0.7  # of the stochastic sampler by which branches of a search differ

_draw = jax.jit(draw_pictures, static_argnums=(0, 4))


def best_pictures(
    model: Model,
    roles: Mapping[str, Params],
    request: Request,
    sampler: Sampler,
    verifier: Verifier,
    key: Key[Array, ""],
    count: int,
    several: int,
) -> UInt8[np.ndarray, "N H W 3"]:
    """The best `count` of `several` times as many pictures.

    Args:
      model: draws and looks.
      roles: its parameters as a role, by name.
      request: the prompt.
      sampler: how it is drawn.
      verifier: scores pictures.
      key: gives all of them.
      count: N.
      several: how many are drawn for each that is kept.
    """
    keys = jax.random.split(key, (1, count * several))
    pixels = _draw(model.backbone, roles["generator"], request, keys, sampler)
    scores = verifier(pixels)[0]
    best = np.asarray(best_of(jnp.asarray(scores), count))
    spent = evaluations(model.backbone.spec, sampler) * len(scores)
    _report(spent, spent, verifier, scores[best].tolist())
    return np.asarray(to_uint8(pixels[:, best]))[0]


def search_pictures(
    model: Model,
    roles: Mapping[str, Params],
    request: Request,
    sampler: Sampler,
    verifier: Verifier,
    key: Key[Array, ""],
    count: int,
    several: int,
) -> UInt8[np.ndarray, "N H W 3"]:
    """The same from a search that prunes while it draws; see `best_pictures`."""
    backbone = model.backbone
    if backbone.spec.kind == "flow":
        sampler = replace(sampler, noise_level=NOISE)
    plan = Plan(trajectories=count * several, survivors=count)
    judge = lambda pixels: jnp.asarray(verifier(pixels))
    found = search(backbone, roles["generator"], request, key, sampler, plan, judge)
    whole = plan.trajectories * evaluations(backbone.spec, sampler)
    _report(found.evaluations, whole, verifier, found.scores.tolist())
    return np.asarray(to_uint8(found.pixels))


def evaluations(spec: Spec, sampler: Sampler) -> int:
    """Network evaluations of one picture."""
    return sampler.steps if spec.kind == "flow" else spec.steps


def _report(spent: int, whole: int, verifier: Verifier, scores: Sequence[float]) -> None:
    """Prints what choosing took, and how good the chosen pictures are told to be."""
    print(
        f"{spent} network evaluations of {whole} without pruning, {verifier.looked} verdicts;"
        f" scores {', '.join(f'{score:.3f}' for score in scores)}"
    )
