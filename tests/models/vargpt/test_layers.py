"""Shared parts that came with this backbone: indexes of several axes, rotated pairs, prefill."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.models.layers import context
from asg_jax.models.layers.rotary import rotary_angles, rotate_pairs, sectioned_angles

WIDTH, THETA = 16, 100.0


def test_sections_turn_with_their_own_axis():
    positions = jnp.array([[3, 5, 7], [1, 1, 1]])
    found = sectioned_angles(positions, WIDTH, THETA, (2, 3, 3))
    for row, position in zip(found, positions, strict=True):
        for axis, part in enumerate((slice(2), slice(2, 5), slice(5, 8))):
            expected = rotary_angles(position[axis], WIDTH, THETA)[part]
            np.testing.assert_array_equal(row[part], expected)


def test_one_axis_stands_for_equal_ones():
    positions = jnp.arange(5)[:, None]
    found = sectioned_angles(positions, WIDTH, THETA, (2, 3, 3))
    np.testing.assert_array_equal(found, rotary_angles(positions[:, 0], WIDTH, THETA))


def test_element_2k_turns_towards_the_next_one():
    angles, unit = np.array([0.3, 1.2]), np.eye(4, dtype=np.float32)
    run = lambda x: rotate_pairs(jnp.asarray(x)[None, None], jnp.asarray(angles)[None])[0, 0]
    for k, angle in enumerate(angles):
        expected = np.zeros(4)
        expected[[2 * k, 2 * k + 1]] = np.cos(angle), np.sin(angle)
        np.testing.assert_allclose(run(unit[2 * k]), expected, atol=1e-6)
        expected[[2 * k, 2 * k + 1]] = -np.sin(angle), np.cos(angle)
        np.testing.assert_allclose(run(unit[2 * k + 1]), expected, atol=1e-6)


def test_prefill_and_states_come_from_one_pass(vargpt):
    prompt = vargpt.prompt(np.arange(12).reshape(2, 6))
    prompt = replace(prompt, mask=prompt.mask.at[1, 4:].set(False))
    language = vargpt.network().language
    prefix, hidden = context.prefill_states(language, prompt)
    np.testing.assert_array_equal(hidden, context.states(language, prompt))
    jax.tree.map(np.testing.assert_array_equal, prefix, context.prefill(language, prompt))
    np.testing.assert_array_equal(prefix.hidden, hidden[jnp.arange(2), jnp.array([5, 3])])
    assert prefix.position.tolist() == [6, 4]
