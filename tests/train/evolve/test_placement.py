"""Batches on a mesh and back."""

import jax
import numpy as np
import pytest

from asg_jax.errors import UserError
from asg_jax.train.evolve.placement import Placement, replicate, whole
from asg_jax.train.mesh import make_mesh


def test_rows_are_cut_over_the_devices_and_come_back():
    place = Placement(make_mesh(fsdp=2, tensor=2))
    rows = {"a": np.arange(24).reshape(8, 3), "b": np.arange(8) > 2}
    put = place.put(rows)
    assert {shard.data.shape for shard in put["a"].addressable_shards} == {(2, 3)}
    jax.tree.map(np.testing.assert_array_equal, place.get(put), rows)
    jax.tree.map(np.testing.assert_array_equal, whole(put), rows)


def test_rows_that_the_devices_cannot_share_are_refused():
    with pytest.raises(UserError, match="6 examples cannot be shared by 4 devices"):
        Placement(make_mesh(fsdp=2, tensor=2)).put(np.zeros(6))


def test_what_is_the_same_everywhere_comes_back_whole():
    mesh = make_mesh(fsdp=2)
    tree = replicate({"x": np.arange(3.0), "n": np.int32(4)}, mesh)
    assert tree["x"].is_fully_replicated and len(tree["x"].sharding.device_set) == 8
    np.testing.assert_array_equal(Placement(mesh).get(tree["x"]), np.arange(3))
    assert int(whole(tree)["n"]) == 4
