"""Parameters without training: what they are like, and that devices do not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from asg_jax.models.random_weights import random_base
from asg_jax.train.mesh import make_mesh

Shape = jax.ShapeDtypeStruct
ABSTRACT = {
    "layers": {
        "first": {"kernel": Shape((4, 256, 64), jnp.bfloat16), "bias": Shape((4, 64), jnp.float32)},
        "other": {"kernel": Shape((4, 256, 64), jnp.bfloat16), "q_bias": Shape((8,), jnp.float32)},
    },
    "norm": {"weight": Shape((8,), jnp.float32)},
    "tokens": {"table": Shape((512, 64), jnp.float32)},
}


@pytest.fixture(scope="module")
def base():
    return random_base(ABSTRACT, None)


def test_every_parameter_has_its_shape_and_dtype(base):
    assert jax.tree.map(lambda leaf: Shape(leaf.shape, leaf.dtype), base) == ABSTRACT


def test_kernels_keep_the_size_of_their_inputs(base):
    first, other = (np.asarray(base["layers"][n]["kernel"], np.float32) for n in ("first", "other"))
    np.testing.assert_allclose([first.std(), other.std()], 256**-0.5, rtol=0.02)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02  # not the same numbers
    np.testing.assert_allclose(base["tokens"]["table"].std(), 0.02, rtol=0.02)


def test_norms_and_biases_do_nothing(base):
    assert (base["norm"]["weight"] == 1).all()
    assert not base["layers"]["first"]["bias"].any() and not base["layers"]["other"]["q_bias"].any()


def test_devices_change_no_number(base):
    mesh = make_mesh(fsdp=2, devices=jax.devices()[:2])
    last = lambda leaf: PartitionSpec(*[None] * (leaf.ndim - 1), "fsdp")
    place = jax.tree.map(lambda leaf: NamedSharding(mesh, last(leaf)), ABSTRACT)
    cut = random_base(ABSTRACT, place)
    assert cut["tokens"]["table"].sharding == place["tokens"]["table"]
    jax.tree.map(np.testing.assert_array_equal, cut, base)
