"""The same steps on several devices, in either style of running rollouts."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from asg_jax.engine.state import TrainState
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.evolve.placement import MeshPlacement
from asg_jax.train.mesh import make_mesh
from tests.tiny import copied, make, take

pytestmark = pytest.mark.slow

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
    for name in ("step", "skipped", "baseline", "entropy_target", "window"):
        values = (jax.device_get(getattr(state, name)) for state in (got, want))
        np.testing.assert_allclose(*values, rtol=1e-4, err_msg=name)


@pytest.mark.skipif(jax.device_count() < B, reason="needs four devices")
@pytest.mark.parametrize("style", ["mesh", "pmap"])
def test_several_devices_take_the_steps_of_one(model, style) -> None:
    alone = make(model)
    mesh = make_mesh(devices=jax.devices()[:B])
    shared = Asg(
        model.backbone,
        replicate(model.base, mesh),
        model.processor,
        model.family.roles,
        BABBLE,
        fitting(model),
        pictures=3,
        placement=Placement(mesh),
        parallelize=partial(parallelize, mesh=mesh, style=style),
    )
    state, compiled = replicate(shared.init(0), mesh), []
    for n in range(4):
        batch, ids = pictures(n, B), range(n * B, n * B + B)
        # Both from one state: Adam turns rounding of small gradients into steps of full length.
        before = jax.device_get(copied(state))
        goal, want = alone.step(jax.device_put(before), batch, ids)
        # Each device of `pmap` runs on its own: there is no mesh around it.
        with jax.set_mesh(mesh) if style == "mesh" else nullcontext():
            with Compilations() as compilations:
                state, got = shared.step(state, batch, ids)
        compiled.append(compilations.count)
        assert_same_update(state, goal, before)
        assert got.metrics.keys() == want.metrics.keys()
        for name, value in want.metrics.items():
            np.testing.assert_allclose(got.metrics[name], value, atol=1e-3, rtol=1e-2, err_msg=name)
    assert compiled[2:] == [0, 0]
