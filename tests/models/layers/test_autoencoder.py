"""Encoder and decoder in slices of a few pictures."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding

from asg_jax.models.layers import autoencoder
from asg_jax.models.layers.vae import VAE, VAEConfig
from asg_jax.train.mesh import BATCH, make_mesh


@pytest.fixture(scope="module")
def vae():
    return VAE(VAEConfig(channels=4, multipliers=(1, 2), blocks=1, groups=2), rngs=nnx.Rngs(0))


def latents(count):
    return jax.random.normal(jax.random.key(0), (count, 4, 4, 16))


@pytest.mark.parametrize("per_slice", [1, 2, 5])
def test_slices_change_no_picture(vae, monkeypatch, per_slice):
    whole = vae.decode(latents(6))
    monkeypatch.setattr(autoencoder, "SLICE", per_slice * 8 * 8)
    assert "scan" in str(jax.make_jaxpr(vae.decode)(latents(6)))
    sliced = vae.decode(latents(6))
    np.testing.assert_allclose(sliced, whole, atol=1e-5)
    np.testing.assert_allclose(vae.encode(sliced, None), vae.encode(whole, None), atol=1e-5)


def test_memory_does_not_grow_with_the_number_of_pictures(vae, monkeypatch):
    """Beside the pictures themselves, which are 3 of the 8 or so channels of the last level."""
    monkeypatch.setattr(autoencoder, "SLICE", 8 * 8)

    def temporary(count):
        memory = jax.jit(vae.decode).lower(latents(count)).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes - 4 * count * 8 * 8 * 3

    assert temporary(64) < temporary(8) + 64 * 4 * 8 * 8 * 3


def test_slices_leave_pictures_on_their_devices(vae, monkeypatch):
    monkeypatch.setattr(autoencoder, "SLICE", 8 * 8)
    z, mesh = latents(8), make_mesh(devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        decode = jax.jit(vae.decode, in_shardings=NamedSharding(mesh, BATCH))
        compiled = decode.lower(z).compile()
        cut = decode(jax.device_put(z, NamedSharding(mesh, BATCH)))
    text = compiled.as_text() or ""
    assert not re.search("all-gather|all-to-all|collective-permute", text)
    np.testing.assert_allclose(cut, vae.decode(z), atol=1e-5)
    assert jnp.isfinite(cut).all()
