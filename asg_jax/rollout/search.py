"""Hierarchical search among images while they are drawn, by the model's own verdicts.

dMLLM-TTS (arXiv 2512.19433): all N trajectories run for `explore` steps without being scored; then
each step keeps the best K, which branch, with a width that shrinks by `decay`; from step `refine`
on, K of them run alone. The branches of one trajectory differ by the noise of the steps to come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from asg_jax.backbone import Backbone, Params, PyTree, Request, Sampler, State, encode
from asg_jax.ranges import bounded
from asg_jax.rollout.image import CONDITION, PIXELS
from asg_jax.signals.selection import best_of

# (pixels of the clean images that N states of one prompt predict) -> their scores
Verdict = Callable[[Float[Array, "1 N H W 3"]], Float[Array, "1 N"]]


@dataclass(frozen=True)
class Plan:
    """How wide a search is at which step.

    Attributes:
      trajectories: N, at the start.
      survivors: K, kept at every scored step; the paper keeps a quarter.
      decay: what divides the width at every scored step, above 1.
      explore: share of the steps before the first score; the paper's is a quarter.
      refine: share of the steps after which the survivors run alone.
    """

    trajectories: int = bounded(8, least=2)
    survivors: int = bounded(2, least=1)
    decay: float = bounded(2.0, above=1)
    explore: float = bounded(0.25, above=0, below=1)
    refine: float = bounded(0.5, above=0, most=1)

    def stages(self, steps: int) -> tuple[int, int]:
        """The last step without scores, and the last one with them."""
        first = max(1, math.floor(self.explore * steps))
        return first, min(steps, max(first + 1, math.floor(self.refine * steps)))


class Search(NamedTuple):
    """What a search found, and what it took.

    Attributes:
      pixels: RGB values in [0, 1] of the K survivors, the best first.
      scores: verdicts on the survivors.
      evaluations: calls of the network, one for each trajectory and step.
      verdicts: images that were looked at.
    """

    pixels: Float[Array, "K H W 3"]
    scores: Float[np.ndarray, " K"]
    evaluations: int
    verdicts: int


def widths(n: int, k: int, decay: float, explore: int, refine: int) -> list[int]:
    """Trajectories at each step after `explore`, up to `refine`: max(floor(n decay^-i), k)."""
    return [
        max(math.floor(n * float(decay) ** -step), k) for step in range(1, refine - explore + 1)
    ]


def branches(sizes: Sequence[int], k: int) -> list[int]:
    """Into how many each of K survivors branches for the next step's width."""
    return [size // k for size in sizes[1:]]


def calls(n: int, k: int, decay: float, steps: int, explore: int, refine: int) -> int:
    """Calls of the denoiser in all, against n * steps without pruning.

    Where a width is no multiple of k, a search takes fewer.
    """
    return n * explore + sum(widths(n, k, decay, explore, refine)) + k * (steps - refine)


def search(
    backbone: Backbone,
    params: Params,
    request: Request,
    key: Key[Array, ""],
    sampler: Sampler,
    plan: Plan,
    verdict: Verdict,
) -> Search:
    """Searches among the images of one prompt.

    Args:
      backbone: a flow needs a sampler with noise, without which branches would not differ.
      params: parameters that the Generator has.
      request: one prompt.
      key: gives everything random.
      sampler: settings of the drawings.
      plan: widths.
      verdict: scores what states predict.
    """
    spec = backbone.spec
    steps = sampler.steps if spec.kind == "flow" else spec.steps
    explore, refine = plan.stages(steps)
    n, k = plan.trajectories, plan.survivors
    sizes = widths(n, k, plan.decay, explore, refine)
    spread = branches([n, *sizes, k], k)
    condition = _condition(backbone, params, request, jax.random.fold_in(key, CONDITION))
    state = backbone.start(params, condition, jax.random.split(key, (1, n)), sampler)
    axes = sample_axes(backbone, params, condition, sampler)
    cost, seen = 0, 0
    for step in range(steps):
        if explore <= step <= refine:
            scores, looked = _scores(backbone, params, condition, state, sampler, verdict)
            seen += looked
            places = jnp.repeat(best_of(scores[0], k), spread[step - explore])
            state = take(state, axes, places, jax.random.fold_in(key, step))
        advance = partial(_unrolled if spec.unrolled else _looped, backbone, params, condition)
        state = advance(state, sampler, step if spec.unrolled else jnp.int32(step))
        cost += state.keys.shape[1]
    scores, looked = _scores(backbone, params, condition, state, sampler, verdict)
    order = best_of(scores[0], k)
    pixels = _pixels(backbone, params, condition, state, sampler)[0]
    return Search(pixels[order], np.asarray(scores[0][order]), cost, seen + looked)


def sample_axes(backbone: Backbone, params: Params, condition: PyTree, sampler: Sampler) -> PyTree:
    """Which axis of each array of a state counts its samples, whatever the backbone keeps."""

    def shapes(count: int) -> State:
        keys = jax.random.split(jax.random.key(0), (1, count))
        return jax.eval_shape(lambda: backbone.start(params, condition, keys, sampler))

    differ = lambda a, b: [x == y for x, y in zip(a.shape, b.shape, strict=True)].index(False)
    return jax.tree.map(differ, shapes(2), shapes(3))


def take(state: State, axes: PyTree, places: Int[Array, " N"], key: Key[Array, ""]) -> State:
    """Some samples of a state, each as often as it is named, with new random numbers ahead."""
    chosen = jax.tree.map(lambda x, axis: jnp.take(x, places, axis=axis), state, axes)
    return replace(chosen, keys=jax.random.split(key, (1, len(places))))


def _scores(
    backbone: Backbone,
    params: Params,
    condition: PyTree,
    state: State,
    sampler: Sampler,
    verdict: Verdict,
) -> tuple[Float[Array, "1 N"], int]:
    """Scores of the clean images that states predict, and how many these are."""
    return verdict(_pixels(backbone, params, condition, state, sampler)), state.keys.shape[1]


@partial(jax.jit, static_argnums=0)
def _condition(backbone: Backbone, params: Params, request: Request, key: Array) -> PyTree:
    return backbone.condition(params, encode(backbone, params, request), key[None])


def _advance(
    backbone: Backbone, params: Params, condition: PyTree, state: State, sampler: Sampler, i: Any
) -> State:
    return backbone.step(params, condition, state, i, sampler)


_looped = jax.jit(_advance, static_argnums=(0, 4))
# Where steps differ in shape, each has a program of its own.
_unrolled = jax.jit(_advance, static_argnums=(0, 4, 5))


@partial(jax.jit, static_argnums=(0, 4))
def _pixels(
    backbone: Backbone, params: Params, condition: PyTree, state: State, sampler: Sampler
) -> Float[Array, "1 N H W 3"]:
    fold = lambda key: jax.random.fold_in(key, PIXELS)
    target = backbone.preview(params, condition, state, sampler)
    return backbone.pixels(params, condition, target, jax.vmap(jax.vmap(fold))(state.keys))
