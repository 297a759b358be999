"""Time grid and the stochastic sampler of rectified flow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Sampler, State
from asg_jax.ops.flow import (
    euler_step,
    flow_sde_step,
    flow_step,
    gaussian_log_prob,
    sde_moments,
    start_noise,
    start_trace,
    step_times,
    time_grid,
)
from tests import goldens

sde_step = jax.jit(flow_sde_step)
log_prob = jax.jit(gaussian_log_prob)


def normal(*shape):
    """Normal numbers, the same at every call."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_golden_stochastic_steps():
    cases = goldens.facts("asg_paper.json")["cases"]
    cases = [case for case in cases if case["function"] == "flow_sde_step"]
    assert cases
    for case in cases:
        arrays = {name: np.asarray(value, np.float32) for name, value in case["inputs"].items()}
        rows = {name: x[None] if x.ndim else x for name, x in arrays.items()}  # (L, C) = (1, C)
        step = sde_step(**rows)
        want = case["expected"]
        np.testing.assert_allclose(step.x_next[0], want["x_next"], atol=2e-5, rtol=2e-5)
        np.testing.assert_allclose(step.log_prob, want["log_prob"], atol=2e-5, rtol=2e-5)
        again = log_prob(step.x_next, step.mean, step.std)
        np.testing.assert_allclose(again, step.log_prob, rtol=1e-6)


def test_step_to_the_data_is_the_plain_one():
    x, v, noise = normal(3, 2, 5, 4)
    step = sde_step(x, v, 0.2, 0.0, 0.7, noise, 0.2)
    np.testing.assert_array_equal(step.x_next, jax.jit(euler_step)(x, v, 0.2, 0.0))
    np.testing.assert_array_equal(step.log_prob, np.zeros(2))


def test_log_prob_is_that_of_a_gaussian():
    x, mean = normal(2, 3, 4, 5)
    want = -((x - mean) ** 2) / (2 * 0.3**2) - math.log(0.3 * math.sqrt(2 * math.pi))
    got = log_prob(x, mean, np.float32(0.3))
    np.testing.assert_allclose(got, want.mean((-2, -1)), rtol=1e-5)


def test_times():
    sampler = Sampler((1, 1), steps=4, shift=2.0)
    grid = time_grid(4, 2.0)
    np.testing.assert_allclose(grid, [1, 6 / 7, 2 / 3, 2 / 5, 0], rtol=1e-6)
    t, t_next, sigma_time = step_times(sampler, jnp.arange(4))
    np.testing.assert_array_equal(t, grid[:-1])
    np.testing.assert_array_equal(t_next, grid[1:])
    np.testing.assert_array_equal(sigma_time, grid[[1, 1, 2, 3]])


MEAN, STD = 1.0, 0.5  # of the data in the toy density


def exact_velocity(x, t):
    """E[noise - data | x] for normal data."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    return (t - (1 - t) * STD**2) / variance * (x - (1 - t) * MEAN) - MEAN


@jax.jit
def affine_steps(times, noise_level):
    """Factor, offset and noise of every step: on normal data each one is affine in x."""

    def step(times):
        t, t_next, sigma_time = times
        x = jnp.array([[[0.0]], [[1.0]]])
        mean, std = sde_moments(x, exact_velocity(x, t), t, t_next, noise_level, sigma_time)
        return mean[1, 0, 0] - mean[0, 0, 0], mean[0, 0, 0], std

    return jax.lax.map(step, times)


def final_moments(steps, noise_level):
    """Mean and standard deviation of the samples, without sampling."""
    times = step_times(Sampler((1, 1), steps=steps, shift=1.0), jnp.arange(steps))
    mean, variance = 0.0, 1.0
    for factor, offset, std in np.stack(affine_steps(times, noise_level), axis=1):
        mean, variance = factor * mean + offset, factor**2 * variance + std**2
    return float(mean), float(variance) ** 0.5


@pytest.mark.parametrize("noise_level", [0.3, 0.7, 1.0])
def test_marginals_are_those_of_the_deterministic_sampler(noise_level):
    # Measured differences at 49 and 400 steps: up to 0.0140 and 0.0018, from opposite errors of
    # discretisation; without the correction of the drift they are 0.2 and more.
    for steps, tolerance in ((49, 0.02), (400, 0.003)):
        mean, std = final_moments(steps, noise_level)
        plain_mean, plain_std = final_moments(steps, 0.0)
        assert abs(mean - plain_mean) < 1e-4
        assert abs(std - plain_std) < tolerance
        assert abs(std - STD) < tolerance


def rollout(keys, sampler):
    """Samples of the toy density, one number each."""

    def step(i, state):
        v = exact_velocity(state.inner, step_times(sampler, i).t)
        x, trace = flow_step(state.inner, v, state, i, sampler)
        return State(x, keys, trace)

    x = start_noise(keys, 1, 1)
    return jax.lax.fori_loop(0, sampler.steps, step, State(x, keys, start_trace(x, sampler)))


def test_rollout_samples_the_density():
    keys = jax.random.split(jax.random.key(2), (1, 5000))
    sampler = Sampler((1, 1), steps=25, shift=1.0, noise_level=0.7)
    state = jax.jit(rollout, static_argnums=1)(keys, sampler)
    # Exact values at 25 steps: 1.0 and 0.494; their standard errors here: 0.007 and 0.005.
    assert abs(float(state.inner.mean()) - MEAN) < 0.03
    assert abs(float(state.inner.std()) - 0.494) < 0.02
    trace = state.trace
    np.testing.assert_array_equal(trace.latents[-1], state.inner)
    assert not trace.log_probs[-1].any() and trace.log_probs[:-1].all()
    noise = np.asarray(trace.latents[0]).ravel()
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.06  # a stream for every image


def test_deterministic_rollout_has_no_trace():
    keys = jax.random.split(jax.random.key(3), (1, 2))
    state = rollout(keys, Sampler((1, 1), steps=3, noise_level=0.0))
    assert state.trace is None
