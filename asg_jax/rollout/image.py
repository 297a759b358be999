"""Image rollouts: G images of each prompt in one loop, and the log-probs of recorded flows."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from asg_jax.backbone import (
    Backbone,
    BitsTrace,
    FlowTrace,
    Params,
    PyTree,
    Request,
    Sampler,
    State,
    encode,
    to_uint8,
)
from asg_jax.ops.flow import gaussian_log_prob, sde_moments, step_times
from asg_jax.pytree import pytree

CONDITION, PIXELS = 2**31, 2**31 + 1  # folded into a key; a sampler folds the numbers of its steps


@pytree
class Drawings:
    """L sampled images of each of B prompts, with what an update needs.

    Attributes:
      values: what the backbone generates: latents, tokens or bits.
      pixels: RGB values in [0, 1].
      pictures: the same as 8-bit values.
      keys: conditions were drawn under them; learning computes these anew.
      latents: those before every step of a stochastic sampler and after the last one, else None.
      log_probs: recorded while sampling: of the steps of that sampler (B, steps, L), or of bits,
        each where it stands in the values; else None.
    """

    values: Array  # (B, L, image tokens, C)
    pixels: Float[Array, "B L H W 3"]
    pictures: UInt8[Array, "B L H W 3"]
    keys: Key[Array, " B"]
    latents: Array | None = None  # (B, steps and end, L, image tokens, C)
    log_probs: Array | None = None

    def pick(self, places: Int[Array, "B K"]) -> Drawings:
        """Some drawings of each prompt."""
        own = lambda axis: (
            lambda x: jnp.take_along_axis(
                x,
                places.reshape(len(places), *[1] * (axis - 1), -1, *[1] * (x.ndim - axis - 1)),
                axis,
            )
        )
        steps = self.latents is not None  # then log-probs are those of steps
        none = lambda pick, x: None if x is None else pick(x)
        return Drawings(
            values=own(1)(self.values),
            pixels=own(1)(self.pixels),
            pictures=own(1)(self.pictures),
            keys=self.keys,
            latents=none(own(2), self.latents),
            log_probs=none(own(2 if steps else 1), self.log_probs),
        )


def sample_images(
    backbone: Backbone,
    params: Params,
    condition: PyTree,
    keys: Key[Array, "B G"],
    sampler: Sampler,
) -> State:
    """Draws G images of each prompt; `backbone.preview` of the result is the sample.

    An image depends on its own prompt and key alone, not on what else is in the batch or on the
    device.

    Args:
      backbone: static under jit.
      params: the generator's.
      condition: what `backbone.condition` made of the prompts, once.
      keys: one for each image.
      sampler: settings, static under jit; with a noise level the state keeps a trace.
    """
    state = backbone.start(params, condition, keys, sampler)
    advance = lambda i, state: backbone.step(params, condition, state, i, sampler)
    spec = backbone.spec
    steps = sampler.steps if spec.kind == "flow" else spec.steps
    if not spec.unrolled:
        return jax.lax.fori_loop(0, steps, advance, state)
    for i in range(steps):
        state = advance(i, state)
    return state


def draw(
    backbone: Backbone,
    params: Params,
    request: Request,
    keys: Key[Array, "B G"],
    sampler: Sampler,
) -> Drawings:
    """Draws G images of each prompt, from encoding to pixels; the condition is computed once.

    Args:
      backbone: static under jit.
      params: the generator's.
      request: the prompts.
      keys: one for each image, from which the noise of sampling and of the pixel decoder are
        folded apart; the condition takes one of the first image's.
      sampler: settings, static under jit.
    """
    fold = lambda purpose: jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, purpose)))(keys)
    of_conditions = fold(CONDITION)[:, 0]
    condition = backbone.condition(params, encode(backbone, params, request), of_conditions)
    state = sample_images(backbone, params, condition, keys, sampler)
    target = backbone.preview(params, condition, state, sampler)
    pixels = backbone.pixels(params, condition, target, fold(PIXELS))
    drawn = Drawings(target.values, pixels, to_uint8(pixels), of_conditions)
    if isinstance(state.trace, BitsTrace):
        return replace(drawn, log_probs=state.trace.log_probs)
    if not isinstance(state.trace, FlowTrace):
        return drawn
    first = lambda x: jnp.moveaxis(x, 1, 0)
    return replace(
        drawn, latents=first(state.trace.latents), log_probs=first(state.trace.log_probs)
    )


def draw_pictures(
    backbone: Backbone,
    params: Params,
    request: Request,
    keys: Key[Array, "B G"],
    sampler: Sampler,
) -> Float[Array, "B G H W 3"]:
    """Only the pixels of `draw`."""
    return draw(backbone, params, request, keys, sampler).pixels


def trace_moments(
    backbone: Backbone,
    params: Params,
    condition: PyTree,
    x: Float[Array, "B G L C"],
    i: int | Int[Array, ""],
    sampler: Sampler,
) -> tuple[Float[Array, "B G L C"], Float[Array, ""]]:
    """Mean and standard deviation of step i from the recorded latents x, without guidance.

    Raises:
      ValueError: the sampler guides, which the protocol's `velocity` does not.
    """
    if sampler.guidance > 1:
        raise ValueError(
            "log-probs of image rollouts need a sampler without guidance: set guidance=1"
        )
    t, t_next, sigma_time = step_times(sampler, i)
    times = jnp.full(x.shape[:2], t)
    velocity = backbone.velocity(params, condition, x, times, sampler.grid)
    return sde_moments(x, velocity, t, t_next, sampler.noise_level, sigma_time)


def trace_log_probs(
    backbone: Backbone,
    params: Params,
    condition: PyTree,
    trace: FlowTrace,
    sampler: Sampler,
) -> Float[Array, "steps B G"]:
    """Log-probs of a recorded rollout's steps under given parameters; 0 for the last step.

    Differentiable with respect to parameters and condition; the backward pass recomputes one step
    at a time. (Flow-GRPO, arXiv 2505.05470.)

    Args:
      backbone: static under jit; a flow backbone.
      params: the policy that scores.
      condition: what `backbone.condition` made of the prompts under the same parameters.
      trace: what `sample_images` returned with a noise level.
      sampler: the settings that the trace was drawn with.
    """

    def log_prob(step: tuple[Array, Array, Array]) -> Float[Array, "B G"]:
        i, x, x_next = step
        mean, std = trace_moments(backbone, params, condition, x, i, sampler)
        return gaussian_log_prob(x_next, mean, std)

    latents = trace.latents[:-1]  # the step to t = 0 is deterministic
    drawn = (jnp.arange(sampler.steps - 1), latents[:-1], latents[1:])
    noisy = jax.lax.map(jax.checkpoint(log_prob), drawn)
    return jnp.concatenate([noisy, jnp.zeros_like(trace.log_probs[:1])])
