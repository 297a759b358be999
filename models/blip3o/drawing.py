"""Sampling of CLIP features: what stays the same over all steps, and the steps of the flow."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from asg_jax.backbone import Prompt, Sampler, State
from asg_jax.models.blip3o.dit import CaptionContext
from asg_jax.models.blip3o.model import Blip3o
from asg_jax.ops.flow import flow_step, start_noise, start_trace, time_grid
from asg_jax.ops.guidance import guide
from asg_jax.pytree import pytree


@pytree
class Condition:
    """Prompts as the transformer reads them, and what guidance compares with.

    Attributes:
      main: the prompts.
      null: what stands for an absent prompt; one row for all.
      blank: features that the blank prompt draws, which guide the decoder of pixels; None without
        such guidance.
    """

    main: CaptionContext
    null: CaptionContext
    blank: Float[Array, "1 L C"] | None


@pytree
class Features:
    """The noisy features of a rollout and the clean ones that the last velocity predicts."""

    x: Float[Array, "B G L C"]
    clean: Float[Array, "B G L C"]


def start(keys: Key[Array, "B G"], channels: int, sampler: Sampler) -> State:
    """Normal noise, a stream of its own for every image; a trace if sampling is stochastic."""
    x = start_noise(keys, sampler.grid[0] * sampler.grid[1], channels)
    return State(Features(x, x), keys, start_trace(x, sampler))


def step(
    model: Blip3o,
    captions: tuple[CaptionContext, CaptionContext],
    state: State,
    i: int | Int[Array, ""],
    sampler: Sampler,
) -> State:
    """One step from time t_i to t_{i+1} under (main, null) captions."""
    grid, (main, null) = time_grid(sampler.steps, sampler.shift), captions
    low, high = sampler.interval
    guided = (sampler.guidance > 1) & (grid[:-1] > low) & (grid[:-1] <= high)
    x, t = state.inner.x, jnp.asarray(grid)[i]
    times = jnp.full(x.shape[:2], t)
    plain = lambda: model.velocity(x, times, main)[0]

    def full() -> Float[Array, "B G L C"]:
        with_prompt, without = model.velocity(x, times, main, null)
        return guide(with_prompt, without, with_prompt, sampler)

    if np.all(guided == guided[0]):
        v = full() if guided[0] else plain()
    else:
        v = jax.lax.cond(jnp.asarray(guided)[i], full, plain)
    x_next, trace = flow_step(x, v, state, i, sampler)
    return replace(state, inner=Features(x_next, x - t * v), trace=trace)


def draw(
    model: Blip3o,
    captions: tuple[CaptionContext, CaptionContext],
    noise: Float[Array, "B G L C"],
    keys: Key[Array, "B G"],
    sampler: Sampler,
) -> Float[Array, "B G L C"]:
    """Features after all steps from the given noise."""
    state = State(Features(noise, noise), keys, start_trace(noise, sampler))
    body = lambda i, state: step(model, captions, state, i, sampler)
    return jax.lax.fori_loop(0, sampler.steps, body, state).inner.x


def blank_features(
    model: Blip3o,
    prompt: Prompt,
    null: CaptionContext,
    noise: Float[Array, "1 1 L C"] | None = None,
) -> Float[Array, "1 L C"]:
    """Features of the blank prompt, which stands in the first row.

    The official pipeline draws them once, from the noise of its first call, and keeps them: here
    the noise is always the same, so that a picture does not depend on those beside it.
    """
    config, dit = model.config.decoding, model.config.dit
    sampler = Sampler(
        grid=(dit.side, dit.side),
        steps=config.blank_steps,
        shift=1.0,
        guidance=config.blank_guidance,
        renorm_min=1.0,
        interval=(0.0, 1.0),
    )
    first = jax.tree.map(lambda x: x[:1], prompt)
    keys = jax.random.split(jax.random.key(0), (1, 1))
    if noise is None:
        noise = start_noise(keys, dit.side**2, dit.channels)
    return draw(model, (model.captions(first), null), noise, keys, sampler)[:, 0]
