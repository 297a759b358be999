"""The same steps on several devices, in either style of running rollouts."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from asg_jax.engine.state import TrainState
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.evolve.placement import MeshPlacement
from asg_jax.train.mesh import make_mesh
from tests.tiny import BITS, FLOW, bits_long, copied, make, take

pytestmark = pytest.mark.slow
long = pytest.mark.long

B = 4


def assert_same_update(got: TrainState, want: TrainState, before: TrainState) -> None:
    """The factors have moved alike, the other state of the method is equal."""
    for role, start in before.roles.items():
        one, other = (jax.device_get(state.roles[role]) for state in (got, want))
        for part in ("adapter", "average"):
            old, new, goal = (ravel_pytree(getattr(x, part))[0] for x in (start, one, other))
            apart, moved = (np.linalg.norm(x) for x in (new - goal, goal - old))
            # Rounding turns the signs of a few of the least gradients: up to .03 were measured.
            assert apart <= 0.1 * moved, f"{role} {part}: {apart:.1e} of {moved:.1e}"
        np.testing.assert_allclose(one.kl_coefficient, other.kl_coefficient, rtol=1e-3)
    rest = lambda state: (state.step, state.skipped, replace(state.memory, anchor=None))
    close = partial(np.testing.assert_allclose, rtol=1e-4)
    jax.tree.map(close, *map(jax.device_get, (rest(got), rest(want))))


@pytest.mark.skipif(jax.device_count() < B, reason="needs four devices")
@pytest.mark.parametrize(
    ("model", "style"),
    [
        (FLOW, "mesh"),
        (FLOW, "pmap"),
        pytest.param(BITS, "mesh", marks=long),
        pytest.param(BITS, "pmap", marks=long),
    ],
    indirect=["model"],
)
def test_several_devices_take_the_steps_of_one(model, style) -> None:
    alone = make(model)
    placement = MeshPlacement(make_mesh(devices=jax.devices()[:B]), style, model.family.rules)
    base = placement.place_state(model.base)
    shared = make(replace(model, base=base), placement=placement)
    state, compiled = placement.place_state(shared.init(0)), []
    for n in range(4):
        facts = {"ids": range(n * B, n * B + B), "seed": n}
        # Both from one state: Adam turns rounding of small gradients into steps of full length.
        before = jax.device_get(copied(state))
        goal, want = take(alone, jax.device_put(before), n + 1, **facts)
        with Compilations() as compilations:
            state, got = take(shared, state, n + 1, **facts)
        compiled.append(compilations.count)
        assert_same_update(state, goal, before)
        assert got.metrics.keys() == want.metrics.keys()
        for name, value in want.metrics.items():
            np.testing.assert_allclose(got.metrics[name], value, atol=1e-3, rtol=1e-2, err_msg=name)
    assert compiled[2:] == [0, 0]


@bits_long
def test_an_update_in_slices_is_that_of_the_whole_batch(model) -> None:
    """Every role, from one state, one example at a time."""
    whole, sliced = make(model), make(model, micro=1)
    state = whole.init(0)
    for n in range(2):
        before = jax.device_get(copied(state))
        facts = {"ids": range(n * B, n * B + B), "seed": n}
        got, report = take(sliced, jax.device_put(before), n + 1, **facts)
        state, want = take(whole, state, n + 1, **facts)
        assert_same_update(got, state, before)
        for name, value in want.metrics.items():
            np.testing.assert_allclose(
                report.metrics[name], value, atol=1e-4, rtol=1e-3, err_msg=name
            )
