"""Batches and states on a mesh and back."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.topologies import get_topology_desc
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from asg_jax.backbone import LoRA
from asg_jax.errors import UserError
from asg_jax.train.evolve.placement import MeshPlacement, whole
from asg_jax.train.mesh import AXES, Share, make_mesh, share_of

RULES = ((r".*\.q\.kernel", ("fsdp", "tensor")), (r".*\.o\.kernel", ("tensor", "fsdp")))


def test_rows_are_cut_over_the_devices_and_come_back():
    place = MeshPlacement(make_mesh(fsdp=2, tensor=2))
    rows = {"a": np.arange(24).reshape(8, 3), "b": np.arange(8) > 2}
    put = place.put(rows)
    assert {shard.data.shape for shard in put["a"].addressable_shards} == {(2, 3)}
    jax.tree.map(np.testing.assert_array_equal, place.get(put), rows)
    jax.tree.map(np.testing.assert_array_equal, whole(put), rows)


def test_batches_that_the_devices_cannot_share_are_refused():
    place = MeshPlacement(make_mesh(fsdp=2, tensor=2))
    place.check({"understanding": 8})
    with pytest.raises(UserError, match="batch.generation is 6, which 4 parts of the mesh cannot"):
        place.check({"understanding": 8, "generation": 6})


def test_a_state_is_cut_like_the_kernels():
    place = MeshPlacement(make_mesh(fsdp=2, tensor=2), rules=RULES)
    adapter = {
        "layers.q": LoRA(jnp.ones((2, 4, 3)), jnp.ones((2, 3, 6)), 2.0),
        "layers.o": LoRA(jnp.ones((2, 4, 3)), jnp.ones((2, 3, 6)), 2.0),
        "layers.other": LoRA(jnp.ones((4, 3)), jnp.ones((3, 5)), 2.0),
    }
    state = {"step": np.int32(4), "moments": ({"mu": adapter},), "adapter": adapter}
    laid = place.place_state(state)
    for found in (laid["adapter"], laid["moments"][0]["mu"]):
        assert found["layers.q"].a.sharding.spec == P(None, ("fsdp",), None)
        assert found["layers.q"].b.sharding.spec == P(None, None, ("tensor",))  # 6 is no 4 parts
        assert found["layers.o"].a.sharding.spec == P(None, ("tensor", "fsdp"), None)
        assert found["layers.other"].a.is_fully_replicated
    assert laid["step"].is_fully_replicated and len(laid["step"].sharding.device_set) == 8
    jax.tree.map(np.testing.assert_array_equal, whole(laid), state)
    again = place.place_state(laid)
    assert jax.tree.map(lambda x: x.sharding, again) == jax.tree.map(lambda x: x.sharding, laid)


def test_an_update_keeps_the_state_where_it_lay():
    place = MeshPlacement(make_mesh(fsdp=2, tensor=2), rules=RULES)
    state = place.place_state({"layers.q": LoRA(jnp.ones((4, 3)), jnp.zeros((3, 4)), 1.0)})
    lay = jax.tree.map(lambda leaf: leaf.sharding, state)

    def update(scale, state, batch):
        new = jax.tree.map(lambda leaf: leaf + scale * batch.sum(), state)
        return new, {"sum": batch.sum()}, batch * 2

    batch = np.arange(8.0, dtype=np.float32)
    new, metrics, rows = place.compile_update(update)(1.0, state, place.put(batch))
    assert jax.tree.map(lambda leaf: leaf.sharding, new) == lay
    assert float(new["layers.q"].b[0, 0]) == float(metrics["sum"]) == 28
    np.testing.assert_array_equal(place.get(rows), batch * 2)
    assert state["layers.q"].a.is_deleted()


def mesh_of(processes: list[int], fsdp: int, tensor: int) -> Mesh:
    """Devices that belong to these processes, in the order of a mesh."""
    devices = np.array([SimpleNamespace(process_index=p) for p in processes])
    grid = devices.reshape(-1, fsdp, tensor)
    return SimpleNamespace(devices=grid, shape=dict(zip(AXES, grid.shape, strict=True)))  # type: ignore[return-value]


def test_processes_take_the_rows_of_their_devices():
    mesh = mesh_of([0, 0, 1, 1], fsdp=2, tensor=1)
    assert [share_of(mesh, p).rows(8) for p in (0, 1)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    mixed = mesh_of([0, 1, 0, 1], fsdp=2, tensor=1)
    assert [share_of(mixed, p).rows(8) for p in (0, 1)] == [(0, 1, 4, 5), (2, 3, 6, 7)]


def test_processes_that_share_rows_get_the_same():
    mesh = mesh_of([0, 1, 2, 3], fsdp=1, tensor=2)
    shares = [share_of(mesh, process) for process in range(4)]
    assert shares[:2] == [Share((0,), 2, True), Share((0,), 2, False)]
    assert [share.rows(4) for share in shares] == [(0, 1), (0, 1), (2, 3), (2, 3)]


def test_rows_that_processes_cannot_share_evenly_are_refused():
    with pytest.raises(UserError, match="3 processes cannot share batches evenly with fsdp=1 and"):
        share_of(mesh_of([0, 0, 1, 1, 2, 2], fsdp=1, tensor=3), 0)


@pytest.mark.parametrize(("fsdp", "tensor"), [(16, 1), (4, 2), (1, 4)])
def test_the_hosts_of_a_slice_share_a_batch(tpu_compiler, fsdp, tensor):
    devices = get_topology_desc("v5e:4x4", "tpu").devices
    mesh = make_mesh(fsdp, tensor, devices)  # neighbours on the slice are neighbours on the mesh
    shares = [share_of(mesh, host) for host in sorted({device.process_index for device in devices})]
    rows = [row for share in shares if share.first for row in share.rows(32)]
    assert sorted(rows) == list(range(32))
