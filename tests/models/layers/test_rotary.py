"""Rotary embedding: relative positions, the pairing of elements, precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from asg_jax.models.layers.rotary import rotary_angles, rotate_halves

WIDTH, THETA = 8, 100.0


@partial(jax.jit, static_argnames="theta")
def rotated(x, position, theta=THETA):
    """One vector at one position."""
    angles = rotary_angles(jnp.full(1, position), x.shape[-1], theta)
    return rotate_halves(x[None, None], angles)[0, 0]


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@settings(max_examples=25)
@given(first=st.integers(0, 200), second=st.integers(0, 200), shift=st.integers(0, 200))
def test_products_depend_on_the_distance_alone(first, second, shift):
    q, k = normal(2, WIDTH)
    near = rotated(q, first) @ rotated(k, second)
    far = rotated(q, first + shift) @ rotated(k, second + shift)
    np.testing.assert_allclose(far, near, atol=2e-4)


def test_element_k_turns_towards_element_k_plus_half():
    """By the angle p theta^(-2k / width), counter-clockwise."""
    half, position, unit = WIDTH // 2, 3, np.eye(WIDTH, dtype=np.float32)
    for k in range(half):
        angle = position * THETA ** (-2 * k / WIDTH)
        expected = np.zeros(WIDTH)
        expected[[k, k + half]] = np.cos(angle), np.sin(angle)
        np.testing.assert_allclose(rotated(unit[k], position), expected, atol=1e-6)
        expected[[k, k + half]] = -np.sin(angle), np.cos(angle)
        np.testing.assert_allclose(rotated(unit[k + half], position), expected, atol=1e-6)


def test_every_head_turns_alike():
    x, positions = normal(2, 3, WIDTH), jnp.array([5, 6])  # two rows of three heads
    run = jax.jit(lambda x: rotate_halves(x, rotary_angles(positions, WIDTH, THETA)))
    apart = np.stack([rotated(x[0, 1], 5), rotated(x[1, 1], 6)])
    np.testing.assert_allclose(run(x)[:, 1], apart, atol=1e-6)


def test_bfloat16_at_far_positions_errs_by_one_rounding():
    """Angles stay float32: bfloat16 could not even tell position 30000 from 30001."""
    x = jnp.ones(WIDTH, jnp.bfloat16)
    out = rotated(x, 30001, theta=1e6)
    assert out.dtype == jnp.bfloat16
    angles = 30001 * 1e6 ** (-2 * np.arange(WIDTH // 2) / WIDTH)
    cos, sin = np.cos(angles), np.sin(angles)
    expected = np.concatenate([cos - sin, cos + sin])
    np.testing.assert_allclose(out.astype(jnp.float32), expected, atol=2**-8 + 3e-3)
