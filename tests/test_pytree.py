"""Pytree dataclasses: children, structure, and leaves that are no arrays."""

from dataclasses import FrozenInstanceError, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Flow, LoRA, Prompt, Target
from asg_jax.models.bagel.training import Losses


def lora(scale=0.5):
    return LoRA(jnp.ones((3, 2)), jnp.ones((2, 4)), scale)


def test_leaves_may_be_anything():
    """JAX puts None, shapes and its own markers where the annotations promise arrays."""
    assert jax.tree.map(jnp.shape, lora()).a == (3, 2)
    assert jax.tree.map(lambda _: "leaf", Losses(*[jnp.zeros(2)] * 4)).velocity == "leaf"
    flow = Flow(*jnp.zeros((2, 1, 1, 2, 3)))
    axes = jax.tree.unflatten(jax.tree.structure(flow), (0, 1))
    assert jax.vmap(lambda flow: flow.goal, in_axes=(axes,))(flow).shape == (1, 1, 2, 3)


def test_static_fields_are_structure():
    """They pass through a map unchanged, and trees that differ in them do not match."""
    assert len(jax.tree.leaves(lora())) == 2
    doubled = jax.tree.map(lambda leaf: 2 * leaf, lora())
    assert doubled.scale == 0.5
    np.testing.assert_array_equal(doubled.a, 2 * np.ones((3, 2)))
    assert jax.tree.structure(lora()) == jax.tree.structure(lora())
    with pytest.raises(ValueError, match="metadata"):
        jax.tree.map(jnp.add, lora(0.5), lora(1.0))


def test_a_new_static_value_compiles_anew():
    traces = []

    @jax.jit
    def total(target):
        traces.append(target.grid)
        return jnp.sum(target.values) * target.grid[0]

    values = jnp.ones((1, 4, 2))
    assert [float(total(Target(values, grid))) for grid in ((2, 2), (1, 4), (2, 2))] == [16, 8, 16]
    assert traces == [(2, 2), (1, 4)]


def test_an_absent_child_is_no_leaf():
    rows = jnp.zeros((1, 2), jnp.int32)
    prompt = Prompt(rows, rows, rows[..., None], rows, rows.astype(bool))
    assert len(jax.tree.leaves(prompt)) == 5
    filled = replace(prompt, features=jnp.zeros((1, 3, 4)))
    assert len(jax.tree.leaves(filled)) == 6 and filled.latents == 0


def test_fields_cannot_be_assigned():
    with pytest.raises(FrozenInstanceError):
        lora().scale = 2.0  # pyright: ignore[reportAttributeAccessIssue]
