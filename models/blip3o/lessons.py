"""What pre-training teaches the parts between pictures and features, from pictures alone.

The official model takes them over: EVA-CLIP learned from captions (arXiv 2303.15389), the decoder
from its features (Emu2, arXiv 2312.13286).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from einops import repeat
from jaxtyping import Array, Bool, Float, Key

from asg_jax.backbone import PyTree
from asg_jax.models.blip3o.config import Blip3oConfig
from asg_jax.models.blip3o.decoding import euler_table, signal_left, size_row
from asg_jax.models.blip3o.model import Blip3o


def readout(config: Blip3oConfig, facts: int, key: Key[Array, ""]) -> PyTree:
    """A linear map from a feature to the facts of its part of the picture, and to its own place."""
    channels, goals = config.dit.channels, facts + 2 * config.dit.side
    kernel = jax.random.normal(key, (channels, goals)) / jnp.sqrt(channels)
    return {"kernel": kernel, "bias": jnp.zeros(goals)}


def features_loss(
    model: Blip3o,
    pixels: Float[Array, "B H W 3"],
    facts: Bool[Array, "B rows columns F"],
    key: Key[Array, ""],
    noise: float,
    reader: PyTree,
) -> Float[Array, ""]:
    """Makes features say what they stand for, and each channel have mean 0 and variance 1.

    Args:
      model: whose EVA-CLIP learns.
      pixels: RGB values in [0, 1].
      facts: what is true of every part of a picture.
      key: gives the noise.
      noise: its standard deviation; what is read through it lies far apart.
      reader: what `readout` made.

    Returns:
      Mean cross-entropy of all facts in nats, plus the divergence of the channels from a standard
      normal distribution, were they normal.
    """
    features, side = _features(model, pixels), model.config.dit.side
    blurred = features + noise * jax.random.normal(key, features.shape)
    said = optax.sigmoid_binary_cross_entropy(
        blurred @ reader["kernel"] + reader["bias"], _goals(facts, side)
    )
    mean, variance = features.mean((0, 1)), features.var((0, 1))
    return said.mean() + jnp.mean(mean**2 + variance - 1 - jnp.log(variance)) / 2


def _features(model: Blip3o, pixels: Float[Array, "B H W 3"]) -> Float[Array, "B L C"]:
    assert model.eva is not None  # pre-training starts with all parts
    return model.eva.targets(pixels)


def _goals(facts: Bool[Array, "B rows columns F"], side: int) -> Float[Array, "B L goals"]:
    """For every feature the facts of its part, its row and its column."""
    batch, rows, columns, _ = facts.shape
    own = repeat(facts, "b r c f -> b (r h) (c w) f", h=side // rows, w=side // columns)
    place = jnp.stack(jnp.meshgrid(*[jnp.arange(side)] * 2, indexing="ij"), axis=-1)
    place = jax.nn.one_hot(place, side).reshape(side, side, -1)
    place = jnp.broadcast_to(place, (batch, *place.shape))
    return jnp.concatenate([own, place], axis=-1).reshape(batch, side * side, -1)


def denoising_loss(
    model: Blip3o, pixels: Float[Array, "B H W 3"], key: Key[Array, ""], noise: float
) -> Float[Array, ""]:
    """Squared error of the latents that the UNet's noise leaves, under the features.

    That of the noise itself hardly counts where there is little else, which is where the steps of
    the sampler are largest and the features decide what stands where.

    Args:
      model: whose UNet learns.
      pixels: RGB values in [0, 1].
      key: gives times and noise.
      noise: the largest standard deviation of what is added to the features, which will be drawn
        and never be exact.
    """
    of_time, of_latents, of_features, of_strength = jax.random.split(key, 4)
    batch = len(pixels)
    latents = jax.lax.stop_gradient(model.vae.encode(pixels * 2 - 1, None))
    features = jax.lax.stop_gradient(_features(model, pixels))
    strength = noise * jax.random.uniform(of_strength, (batch, 1, 1))
    features = features + strength * jax.random.normal(of_features, features.shape)
    decoding = model.config.decoding
    first = euler_table(decoding.steps, decoding.betas).timesteps[0]
    even = (jnp.arange(batch) + jax.random.uniform(of_time, (batch,))) / batch
    times = jnp.floor((first + 1) * even).astype(int)  # the sampler asks for none after the first
    left = jnp.asarray(signal_left(decoding.betas))[times][:, None, None, None]
    added = jax.random.normal(of_latents, latents.shape)
    noisy = jnp.sqrt(left) * latents + jnp.sqrt(1 - left) * added
    sizes = jnp.broadcast_to(size_row(decoding), (batch, 6))
    found = model.unet(noisy, times.astype(jnp.float32), model.unet.guide(features, sizes))
    return jnp.mean((1 - left) / left * (found - added) ** 2)
