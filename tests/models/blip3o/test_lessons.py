"""What the encoder is to say of a picture, and what the decoder is to find in noise."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from asg_jax.models.blip3o import lessons
from asg_jax.models.blip3o.config import Blip3oConfig, DecodingConfig
from asg_jax.models.blip3o.decoding import euler_table, signal_left
from asg_jax.models.blip3o.dit import DiTConfig
from asg_jax.models.blip3o.model import Blip3o

SIDE, FACTS = 4, 3


class StandIn(Blip3o):
    """A network whose pictures are their own features and latents."""

    def __init__(self, unet=None):
        self.config = Blip3oConfig(
            dit=DiTConfig(side=SIDE, channels=3), decoding=DecodingConfig(size=(SIDE, SIDE))
        )
        self.eva = SimpleNamespace(targets=lambda pixels: pixels.reshape(len(pixels), -1, 3))
        self.vae = SimpleNamespace(encode=lambda picture, key: picture)
        self.unet = unet


class FindsNothing:
    """A UNet that keeps what it is shown and finds no noise."""

    def guide(self, features, sizes):
        return features, sizes

    def __call__(self, noisy, times, guide):
        self.noisy, self.times, self.told = noisy, times, guide
        return jnp.zeros_like(noisy)


def test_a_feature_is_to_tell_the_facts_of_its_part_and_its_own_place():
    """A readout that knows the facts loses nothing there; of the places this one says nothing."""
    model, goals = StandIn(), FACTS + 2 * SIDE
    parts = jax.random.normal(jax.random.key(0), (64, 2, 2, FACTS))
    facts, pixels = parts > 0, jnp.repeat(jnp.repeat(parts, 2, 1), 2, 2)
    reader = lessons.readout(model.config, FACTS, jax.random.key(0))
    assert reader["kernel"].shape == (3, goals) and reader["bias"].shape == (goals,)
    certain = {"kernel": 1e6 * jnp.eye(3, goals), "bias": jnp.zeros(goals)}
    loss = lambda facts, noise: lessons.features_loss(
        model, pixels, facts, jax.random.key(1), noise, certain
    )
    np.testing.assert_allclose(loss(facts, 0.0), np.log(2) * 2 * SIDE / goals, atol=0.05)
    for axis in (1, 2):  # facts of another part
        assert float(loss(jnp.roll(facts, 1, axis), 0.0)) > 1e4
    assert float(loss(facts, 0.5)) > 1e3


def test_features_are_to_have_mean_zero_and_variance_one():
    model, key = StandIn(), jax.random.key(0)
    pixels = jax.random.normal(key, (64, SIDE, SIDE, 3))
    facts = jnp.zeros((64, 2, 2, FACTS), bool)
    silent = {"kernel": jnp.zeros((3, FACTS + 2 * SIDE)), "bias": jnp.zeros(FACTS + 2 * SIDE)}
    loss = lambda pixels: lessons.features_loss(model, pixels, facts, key, 0.0, silent)
    normal = float(loss(pixels))
    np.testing.assert_allclose(normal, np.log(2), atol=0.01)
    # Of normal distributions in nats: (mean^2 + variance - 1 - log variance) / 2.
    np.testing.assert_allclose(loss(pixels + 1) - normal, 0.5, atol=0.05)
    np.testing.assert_allclose(loss(2 * pixels) - normal, (3 - np.log(4)) / 2, atol=0.05)


def test_the_decoder_learns_what_the_sampler_asks_for():
    """It is shown latents as the sampler scales them, at the times of the same table."""
    unet = FindsNothing()
    model, pixels = StandIn(unet), jax.random.uniform(jax.random.key(0), (50, SIDE, SIDE, 3))
    loss = lessons.denoising_loss(model, pixels, jax.random.key(1), 0.0)
    times = np.asarray(unet.times).astype(int)
    table = euler_table(50, model.config.decoding.betas)
    assert times.min() >= 0 and times.max() <= table.timesteps[0]
    np.testing.assert_allclose(np.diff(np.sort(times)).mean(), 982 / 50, rtol=0.1)  # all over
    left = signal_left(model.config.decoding.betas)[times][:, None, None, None]
    noise = (np.asarray(unet.noisy) - np.sqrt(left) * (pixels * 2 - 1)) / np.sqrt(1 - left)
    np.testing.assert_allclose(np.mean(noise**2), 1, atol=0.1)
    # None of it was found: all of it, at its size beside the latents, is left in them.
    np.testing.assert_allclose(np.mean((1 - left) / left * noise**2), loss, rtol=1e-3)
    sigmas = np.sqrt((1 - left) / left)[:, 0, 0, 0]
    steps = np.interp(times, table.timesteps[::-1], table.sigmas[-2::-1])
    np.testing.assert_allclose(sigmas, steps, rtol=0.1, atol=0.02)
    features, sizes = unet.told
    np.testing.assert_array_equal(features, pixels.reshape(50, -1, 3))
    assert sizes.shape == (50, 6) and sizes[0, 4:].tolist() == [SIDE, SIDE]
