"""Image rollouts: G guided pictures of each of B prompts, on a flow backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from asg_jax.backbone import (
    Backbone,
    Params,
    Prompt,
    Prompts,
    PyTree,
    Request,
    Sampler,
    State,
    Target,
    encode,
)
from asg_jax.ops.flow import euler_step, start_noise, time_grid
from asg_jax.ops.guidance import guide
from asg_jax.rollout.image import draw_pictures
from asg_jax.train.benchmarks.cost import StepCost, cost
from asg_jax.train.benchmarks.forms import Call, Forms, Task, one_by_one
from asg_jax.train.compiler import jit

# Computes every condition once, and all branches of all pictures together.
engine = jit(draw_pictures, static_argnums=(0, 4))


def plain(task: Task) -> Float[np.ndarray, "B G H W 3"]:
    """One picture at a time, its contexts computed anew (the empty one costs nothing)."""
    prompt = task.request.prompts.main
    nothing = replace(prompt, mask=np.zeros_like(prompt.mask))
    empty = _condition(task.backbone, task.params, _first(nothing), task.keys)
    pictures = [_plain_sample(one, empty) for one in one_by_one(task)]
    return np.reshape(pictures, (*task.keys.shape, *pictures[0].shape))


def _plain_sample(task: Task, no_text: PyTree) -> Float[np.ndarray, "H W 3"]:
    """Three contexts, and three calls of the network in every guided step."""
    backbone, params, request, keys, sampler = task
    main = _condition(backbone, params, request.prompts.main, keys)
    # The text without pictures is the whole prompt here; a plain form computes it all the same.
    no_image = _condition(backbone, params, request.prompts.main, keys)
    velocity = partial(_velocity, backbone, sampler.grid, params)
    low, high = sampler.interval
    times = time_grid(sampler.steps, sampler.shift)
    x = _noise(keys, sampler.grid[0] * sampler.grid[1], backbone.spec.token_channels)
    for t, t_next in zip(times[:-1], times[1:], strict=True):
        v = velocity(main, x, t)
        if low < t <= high:
            v = _guide(v, velocity(no_text, x, t), velocity(no_image, x, t), sampler)
        x = _euler(x, v, t, t_next)
    return np.asarray(_pixels(backbone, params, main, Target(x, sampler.grid), keys))[0, 0]


def _first(prompt: Prompt) -> Prompt:
    return jax.tree.map(lambda x: x[:1], prompt)


@partial(jax.jit, static_argnums=0)
def _condition(backbone: Backbone, params: Params, prompt: Prompt, keys: Array) -> PyTree:
    return backbone.condition(params, Prompts(prompt), keys[:, 0])


@partial(jax.jit, static_argnums=(0, 1))
def _velocity(
    backbone: Backbone,
    grid: tuple[int, int],
    params: Params,
    condition: PyTree,
    x: Array,
    t: Array,
) -> Array:
    return backbone.velocity(params, condition, x, jnp.full(x.shape[:2], t), grid)


@partial(jax.jit, static_argnums=0)
def _pixels(
    backbone: Backbone, params: Params, condition: PyTree, target: Target, keys: Array
) -> Array:
    return backbone.pixels(params, condition, target, keys)


_noise = jax.jit(start_noise, static_argnums=(1, 2))
_guide = jax.jit(guide, static_argnums=3)
_euler = jax.jit(euler_step)


def differences(
    pictures: Float[Array, "B G H W 3"], plain: Float[np.ndarray, "B G H W 3"]
) -> dict[str, float]:
    """The largest difference of a colour value, which goes from 0 to 1."""
    return {"pixels": float(np.abs(np.asarray(pictures) - plain).max())}


def parts(task: Task) -> dict[str, Call]:
    """The engine's parts; `guided_step` is one step of all branches of all pictures."""
    backbone, params, request, keys, sampler = task
    begin = jit(partial(_begin, backbone, sampler))
    step = jit(partial(_guided_step, backbone, sampler))
    condition, state = begin(params, request, keys)
    target = jax.jit(backbone.preview, static_argnums=3)(params, condition, state, sampler)
    return {
        "condition": lambda: begin(params, request, keys),
        "guided_step": lambda: step(params, (condition, state)),
        "decode_pixels": lambda: _pixels(backbone, params, condition, target, keys),
    }


def step_seconds(task: Task, seconds: Mapping[str, float]) -> float:
    """Of one guided step of all pictures."""
    return seconds["guided_step"]


def step_cost(task: Task) -> StepCost:
    """Of one guided step of all pictures."""
    backbone, params, request, keys, sampler = task
    context = jax.eval_shape(partial(_begin, backbone, sampler), params, request, keys)
    return cost(partial(_guided_step, backbone, sampler), params, context)


def _begin(
    backbone: Backbone, sampler: Sampler, params: Params, request: Request, keys: Array
) -> tuple[PyTree, State]:
    condition = backbone.condition(params, encode(backbone, params, request), keys[:, 0])
    return condition, backbone.start(params, condition, keys, sampler)


def _guided_step(
    backbone: Backbone, sampler: Sampler, params: Params, context: tuple[PyTree, State]
) -> PyTree:
    """The first step; guided at all times, so that the program holds no other kind of step."""
    return backbone.step(params, *context, 0, replace(sampler, interval=(0.0, 1.0))).inner


def units(task: Task) -> int:
    """How many pictures a task draws."""
    return task.keys.size


FORMS = Forms(
    engine, plain, differences, parts, step_seconds, step_cost, unit="images", units=units
)
