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


def cycles(asg: Asg, state) -> tuple[list[dict[str, float]], list[int]]:
    """Metrics and compilations of two cycles."""
    metrics, compiled = [], []
    for n in range(4):
        with Compilations() as compilations:
            state, report = asg.step(state, pictures(n, B), range(n * B, n * B + B))
        metrics.append(report.metrics)
        compiled.append(compilations.count)
    return metrics, compiled


@pytest.mark.skipif(jax.device_count() < B, reason="needs four devices")
@pytest.mark.parametrize("style", ["mesh", "pmap"])
def test_several_devices_take_the_steps_of_one(model, style) -> None:
    alone = make(model)
    want, _ = cycles(alone, alone.init(0))
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
    # Each device of `pmap` runs on its own: there is no mesh around it.
    with jax.set_mesh(mesh) if style == "mesh" else nullcontext():
        got, compiled = cycles(shared, replicate(shared.init(0), mesh))
    assert compiled[2:] == [0, 0]
    for one, other in zip(want, got, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, atol=1e-3, rtol=1e-2, err_msg=name)
