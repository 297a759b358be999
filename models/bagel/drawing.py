"""Image sampling of BAGEL: guidance contexts and the steps of the flow."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from asg_jax.backbone import Prefix, Prompts, Sampler, State
from asg_jax.models.bagel.model import Bagel
from asg_jax.models.layers.context import join_prefixes, prefill
from asg_jax.ops.flow import flow_step, start_noise, start_trace, time_grid
from asg_jax.ops.guidance import guide
from asg_jax.pytree import pytree


@pytree
class Condition:
    """Contexts of the guidance branches; those of one prompt follow each other on the batch axis.

    The order is main, without text, and (editing) without images. Text to image has no third
    branch: without a picture the image-free context is the main one.
    """

    branches: Prefix
    main: Prefix


@pytree
class Latents:
    """The noisy latents of a rollout and the clean ones that the last velocity predicts."""

    x: Float[Array, "B G L C"]
    clean: Float[Array, "B G L C"]


def condition(model: Bagel, prompts: Prompts) -> Condition:
    """Prefills every context of a request; an absent `no_text` is the empty context."""
    run = lambda prompt: prefill(model.language, prompt)
    main = run(prompts.main)
    contexts = [main]
    # A zero mask and position: nothing is seen, and the picture stands at index 0.
    contexts.append(run(prompts.no_text) if prompts.no_text else jax.tree.map(jnp.zeros_like, main))
    if prompts.no_image is not None:
        contexts.append(run(prompts.no_image))
    return Condition(join_prefixes(contexts), main)


def _first(contexts: Prefix, branches: int, count: int) -> Prefix:
    """The first `count` branches of every prompt."""

    def take(x: Array, axis: int) -> Array:
        split = x.reshape(*x.shape[:axis], -1, branches, *x.shape[axis + 1 :])
        kept = jax.lax.slice_in_dim(split, 0, count, axis=axis + 1)
        return kept.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])

    return Prefix(
        keys=take(contexts.keys, 1),
        values=take(contexts.values, 1),
        mask=take(contexts.mask, 0),
        position=take(contexts.position, 0),
        hidden=take(contexts.hidden, 0),
    )


def start(keys: Key[Array, "B G"], channels: int, sampler: Sampler) -> State:
    """Normal noise, a stream of its own for every image; a trace if sampling is stochastic."""
    x = start_noise(keys, sampler.grid[0] * sampler.grid[1], channels)
    return State(Latents(x, x), keys, start_trace(x, sampler))


def guided_velocity(
    model: Bagel,
    condition: Condition,
    x: Float[Array, "B G L C"],
    t: Float[Array, ""],
    sampler: Sampler,
) -> Float[Array, "B G L C"]:
    """Velocity with guidance: all branches that count in one batch."""
    contexts = condition.branches
    count = branches = contexts.mask.shape[0] // x.shape[0]
    if branches == 3 and sampler.image_guidance <= 1:
        count = 2  # the image-free branch has no weight
        contexts = _first(contexts, branches, count)
    repeated = jnp.repeat(x, count, axis=0)
    times = jnp.full(repeated.shape[:2], t)
    v = model.velocity(contexts, repeated, times, sampler.grid)
    v = v.reshape(-1, count, *v.shape[1:])
    return guide(v[:, 0], v[:, 1], v[:, 2] if count == 3 else v[:, 0], sampler)


def step(
    model: Bagel, condition: Condition, state: State, i: int | Int[Array, ""], sampler: Sampler
) -> State:
    """One step from time t_i to t_{i+1}; guidance acts inside its interval of times."""
    grid = time_grid(sampler.steps, sampler.shift)
    low, high = sampler.interval
    guided = (sampler.guidance > 1) & (grid[:-1] > low) & (grid[:-1] <= high)
    x, t = state.inner.x, jnp.asarray(grid)[i]
    plain = lambda: model.velocity(condition.main, x, jnp.full(x.shape[:2], t), sampler.grid)
    full = lambda: guided_velocity(model, condition, x, t, sampler)
    if np.all(guided == guided[0]):
        v = full() if guided[0] else plain()
    else:
        v = jax.lax.cond(jnp.asarray(guided)[i], full, plain)
    x_next, trace = flow_step(x, v, state, i, sampler)
    return replace(state, inner=Latents(x_next, x - t * v), trace=trace)
