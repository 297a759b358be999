"""Image sampling of BAGEL: guidance contexts and the steps of the flow."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from asg_jax.backbone import Prefix, Prompts, Sampler, State
from asg_jax.models.bagel.model import Bagel
from asg_jax.models.layers.context import prefill
from asg_jax.ops.flow import flow_step, guide, start_noise, start_trace, time_grid
from asg_jax.pytree import pytree


@pytree
class Condition:
    """Contexts of the guidance branches, one after another along the batch axis.

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
    return Condition(_join(contexts), main)


def _join(contexts: list[Prefix]) -> Prefix:
    rows = max(context.mask.shape[1] for context in contexts)

    def pad(x: Array, axis: int) -> Array:
        return jnp.pad(x, [(0, (rows - x.shape[axis]) * (a == axis)) for a in range(x.ndim)])

    return Prefix(
        keys=jnp.concatenate([pad(c.keys, 2) for c in contexts], axis=1),
        values=jnp.concatenate([pad(c.values, 2) for c in contexts], axis=1),
        mask=jnp.concatenate([pad(c.mask, 1) for c in contexts]),
        position=jnp.concatenate([c.position for c in contexts]),
        hidden=jnp.concatenate([c.hidden for c in contexts]),
    )


def _first(contexts: Prefix, count: int) -> Prefix:
    return Prefix(
        keys=contexts.keys[:, :count],
        values=contexts.values[:, :count],
        mask=contexts.mask[:count],
        position=contexts.position[:count],
        hidden=contexts.hidden[:count],
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
    batch = x.shape[0]
    count = condition.branches.mask.shape[0] // batch
    if sampler.image_guidance <= 1:
        count = 2  # the image-free branch has no weight
    times = jnp.full((count * batch, x.shape[1]), t)
    tiled = jnp.concatenate([x] * count)
    v = model.velocity(_first(condition.branches, count * batch), tiled, times, sampler.grid)
    branches = jnp.split(v, count)
    return guide(branches[0], branches[1], branches[2] if count == 3 else branches[0], sampler)


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
