"""Rectified flow: time grid, deterministic and stochastic sampling steps.

Convention: x_t = (1 - t) data + t noise, velocity = noise - data, t = 1 is pure noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from asg_jax.backbone import FlowTrace, Sampler, State

Scalar = float | Float[Array, ""]


class StepTimes(NamedTuple):
    """Times of sampling steps: before, after, and the one that the noise of the step takes."""

    t: Float[Array, "*steps"]
    t_next: Float[Array, "*steps"]
    sigma_time: Float[Array, "*steps"]


class SDEStep(NamedTuple):
    """A stochastic step and the Gaussian that it was drawn from."""

    x_next: Float[Array, "*batch L C"]
    log_prob: Float[Array, "*batch"]
    mean: Float[Array, "*batch L C"]
    std: Float[Array, ""]


def time_grid(steps: int, shift: float) -> Float[np.ndarray, " steps_and_end"]:
    """Times from 1 to 0 (float32), t = shift s / (1 + (shift - 1) s) of an even grid s."""
    s = np.linspace(1, 0, steps + 1, dtype=np.float32)
    return np.float32(shift) * s / (1 + np.float32(shift - 1) * s)


def step_times(sampler: Sampler, i: int | Int[Array, "*steps"]) -> StepTimes:
    """Times of step i (or of several steps).

    The noise level is infinite at t = 1, so that the first step takes it at the second grid time.
    """
    grid = jnp.asarray(time_grid(sampler.steps, sampler.shift))
    return StepTimes(grid[i], grid[i + 1], grid[jnp.maximum(i, 1)])


def euler_step(
    x: Float[Array, "*batch L C"],
    velocity: Float[Array, "*batch L C"],
    t: Scalar,
    t_next: Scalar,
) -> Float[Array, "*batch L C"]:
    """One deterministic step of the flow from t down to t_next."""
    return x - velocity * (t - t_next)


def sde_moments(
    x: Float[Array, "*batch L C"],
    velocity: Float[Array, "*batch L C"],
    t: Scalar,
    t_next: Scalar,
    noise_level: Scalar,
    sigma_time: Scalar,
) -> tuple[Float[Array, "*batch L C"], Float[Array, ""]]:
    """Mean and standard deviation of a stochastic step from t down to t_next.

    Euler-Maruyama step of dx = [v + sigma^2 / (2 t) (x + (1 - t) v)] dt + sigma dw, which has the
    marginals of the flow, with sigma = a sqrt(s / (1 - s)). (Flow-GRPO, arXiv 2505.05470.)

    Args:
      x: latents at time t.
      velocity: what the flow says at these latents.
      t: time before the step.
      t_next: time after it; a step to 0 is the plain Euler step, with standard deviation 0.
      noise_level: a.
      sigma_time: s; equal to t except in the first step (see `step_times`).
    """
    variance = noise_level**2 * sigma_time / (1 - sigma_time)
    variance = jnp.where(jnp.asarray(t_next) > 0, variance, 0.0)
    drift = velocity + variance / (2 * t) * (x + (1 - t) * velocity)
    return euler_step(x, drift, t, t_next), jnp.sqrt(variance * (t - t_next))


def gaussian_log_prob(
    x: Float[Array, "*batch L C"], mean: Float[Array, "*batch L C"], std: Float[Array, ""]
) -> Float[Array, "*batch"]:
    """Log-density of a step's result, the mean over elements; 0 where the step has no noise."""
    noisy = std > 0
    std = jnp.where(noisy, std, 1.0)
    density = -(((x - mean) / std) ** 2) / 2 - jnp.log(std) - math.log(2 * math.pi) / 2
    return jnp.where(noisy, density.mean((-2, -1)), 0.0)


def flow_sde_step(
    x: Float[Array, "*batch L C"],
    velocity: Float[Array, "*batch L C"],
    t: Scalar,
    t_next: Scalar,
    noise_level: Scalar,
    noise: Float[Array, "*batch L C"],
    sigma_time: Scalar,
) -> SDEStep:
    """One stochastic step with the given normal noise; see `sde_moments`."""
    mean, std = sde_moments(x, velocity, t, t_next, noise_level, sigma_time)
    x_next = mean + std * noise
    return SDEStep(x_next, gaussian_log_prob(x_next, mean, std), mean, std)


def start_noise(
    keys: Key[Array, "B G"], tokens: int, channels: int
) -> Float[Array, "B G {tokens} {channels}"]:
    """The latents at t = 1, a stream of its own for every image."""
    return _normal(keys, 0, (tokens, channels))


def start_trace(x: Float[Array, "B G L C"], sampler: Sampler) -> FlowTrace | None:
    """Room for a rollout's record where sampling is stochastic."""
    if sampler.noise_level <= 0:
        return None
    latents = jnp.zeros((sampler.steps + 1, *x.shape), x.dtype).at[0].set(x)
    return FlowTrace(latents, jnp.zeros((sampler.steps, *x.shape[:2])))


def flow_step(
    x: Float[Array, "B G L C"],
    velocity: Float[Array, "B G L C"],
    state: State,
    i: int | Int[Array, ""],
    sampler: Sampler,
) -> tuple[Float[Array, "B G L C"], FlowTrace | None]:
    """Step i of a rollout: the next latents and the trace (None if sampling is deterministic)."""
    t, t_next, sigma_time = step_times(sampler, i)
    trace = state.trace
    if not isinstance(trace, FlowTrace):
        return euler_step(x, velocity, t, t_next), None
    noise = _normal(state.keys, i + 1, x.shape[2:])
    step = flow_sde_step(x, velocity, t, t_next, sampler.noise_level, noise, sigma_time)
    record = jax.lax.dynamic_update_index_in_dim
    latents = record(trace.latents, step.x_next, i + 1, 0)
    return step.x_next, FlowTrace(latents, record(trace.log_probs, step.log_prob, i, 0))


def _normal(keys: Array, stream: int | Array, shape: tuple[int, ...]) -> Array:
    draw = lambda key: jax.random.normal(jax.random.fold_in(key, stream), shape)
    return jax.vmap(jax.vmap(draw))(keys)
