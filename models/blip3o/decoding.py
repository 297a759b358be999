"""From CLIP features to pixels: diffusion of latents by the UNet, then the autoencoder."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Key

from asg_jax.models.blip3o.config import DecodingConfig
from asg_jax.models.blip3o.model import Blip3o
from asg_jax.models.layers.autoencoder import SLICE
from asg_jax.models.sharding import BATCH_AXES

PURPOSE = zlib.crc32(b"pixels")  # keys of the decoder are not those that drew the features
TRAIN_STEPS = 1000


class EulerTable(NamedTuple):
    """Times at which the network is asked, and noise levels before each step and at the end."""

    timesteps: Float[np.ndarray, " steps"]
    sigmas: Float[np.ndarray, " steps_and_end"]

    @property
    def start(self) -> float:
        """Standard deviation of the first latents."""
        return math.sqrt(float(self.sigmas[0]) ** 2 + 1)


def euler_table(steps: int, betas: tuple[float, float]) -> EulerTable:
    """Evenly spaced times from the end of the scale, and sigma^2 = (1 - a) / a there.

    a is the share of signal that is left. (Elucidating diffusion models, arXiv 2206.00364.)
    """
    left = signal_left(betas)
    times = np.arange(steps)[::-1] * (TRAIN_STEPS // steps) + 1
    sigmas = np.append(np.sqrt((1 - left) / left)[times], 0)
    return EulerTable(times.astype(np.float32), sigmas.astype(np.float32))


def signal_left(betas: tuple[float, float]) -> Float[np.ndarray, " times"]:
    """The share of a latent's variance that is signal, at every time."""
    roots = np.linspace(math.sqrt(betas[0]), math.sqrt(betas[1]), TRAIN_STEPS)
    return np.cumprod(1 - roots**2)


def size_row(config: DecodingConfig) -> Float[Array, "6"]:
    """What the UNet is told of sizes: before the cut, its corner, after it."""
    return jnp.asarray([*config.told, 0, 0, *config.size], jnp.float32)


def draw_pixels(
    model: Blip3o,
    tokens: Float[Array, "B G L C"],
    blank: Float[Array, "1 L C"] | None,
    keys: Key[Array, "B G"],
) -> Float[Array, "B G H W 3"]:
    """Pictures in [0, 1], each with noise of its own, a few at a time on every device."""
    vae, config = model.config.vae, model.config.decoding
    shape = (*(n // vae.downsample for n in config.size), vae.latent_channels)
    noise = jax.vmap(
        jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, PURPOSE), shape))
    )(keys)
    guidance = config.guidance
    draw = lambda tokens, noise: finish(model, diffuse(model, tokens, blank, noise, guidance))
    return by_slices(draw, (tokens, noise), max(1, SLICE // math.prod(config.size)))


def by_slices(function: Callable[..., Array], inputs: tuple[Array, ...], most: int) -> Array:
    """`function` of rows (R, ...), applied to inputs (B, G, ...) in slices.

    A slice holds `most` rows at most for each device that the batch is cut over, as many for one
    device as for another, so that all are busy.
    """
    batch, samples = inputs[0].shape[:2]
    mesh = jax.sharding.get_abstract_mesh()
    cut = set(BATCH_AXES) <= set(mesh.auto_axes)
    devices = math.prod(mesh.shape[axis] for axis in BATCH_AXES) if cut else 1
    devices = devices if batch % devices == 0 else 1
    count = batch // devices * samples  # of every device
    rows = max(n for n in range(1, most + 1) if count % n == 0)
    split = lambda x: rearrange(
        rearrange(x, "(n b) g ... -> (b g) n ...", n=devices), "(s r) n ... -> s (n r) ...", r=rows
    )
    join = lambda x: rearrange(
        rearrange(x, "s (n r) ... -> (s r) n ...", r=rows),
        "(b g) n ... -> (n b) g ...",
        g=samples,
    )
    return join(jax.lax.map(lambda part: function(*part), tuple(map(split, inputs))))


def finish(model: Blip3o, latents: Float[Array, "R h w c"]) -> Float[Array, "R H W 3"]:
    """Pictures in [0, 1] of scaled latents."""
    return jnp.clip(model.vae.decode(latents) * 0.5 + 0.5, 0, 1)


def diffuse(
    model: Blip3o,
    tokens: Float[Array, "R L C"],
    blank: Float[Array, "1 L C"] | None,
    noise: Float[Array, "R h w c"],
    guidance: float | Float[Array, ""],
) -> Float[Array, "R h w c"]:
    """Scaled latents of pictures with those features, by Euler steps in float32.

    Args:
      model: the network.
      tokens: features of every picture.
      blank: features of the blank prompt; None turns guidance off.
      noise: normal.
      guidance: scale against the blank prompt.
    """
    config = model.config.decoding
    table, rows = euler_table(config.steps, config.betas), tokens.shape[0]
    features = tokens
    if blank is not None:
        features = jnp.concatenate([tokens, jnp.broadcast_to(blank, tokens.shape)])
    sizes = jnp.broadcast_to(size_row(config), (len(features), 6))
    guide = model.unet.guide(features, sizes)
    timesteps, sigmas = jnp.asarray(table.timesteps), jnp.asarray(table.sigmas)

    def step(i, latents):
        scaled = latents / jnp.sqrt(sigmas[i] ** 2 + 1)
        if blank is None:
            found = model.unet(scaled, timesteps[i], guide)
        else:
            both = model.unet(jnp.concatenate([scaled, scaled]), timesteps[i], guide)
            found = both[rows:] + guidance * (both[:rows] - both[rows:])
        return latents + found * (sigmas[i + 1] - sigmas[i])

    return jax.lax.fori_loop(0, config.steps, step, noise * table.start)
