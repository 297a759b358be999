"""The same steps on several devices, in either style of running rollouts."""

from contextlib import nullcontext
from functools import partial

import jax
import numpy as np
import pytest

from asg_jax.methods.asg import Asg
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.evolve.placement import Placement, replicate
from asg_jax.train.mesh import make_mesh, parallelize
from tests.methods.conftest import BABBLE, fitting, make, pictures

pytestmark = pytest.mark.slow

B = 4


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
        _, want = alone.step(jax.device_put(jax.device_get(state)), batch, ids)
        # Each device of `pmap` runs on its own: there is no mesh around it.
        with jax.set_mesh(mesh) if style == "mesh" else nullcontext():
            with Compilations() as compilations:
                state, got = shared.step(state, batch, ids)
        compiled.append(compilations.count)
        assert got.metrics.keys() == want.metrics.keys()
        for name, value in want.metrics.items():
            np.testing.assert_allclose(got.metrics[name], value, atol=1e-3, rtol=1e-2, err_msg=name)
    assert compiled[2:] == [0, 0]
