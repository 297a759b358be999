"""The autoencoder of FLUX and of Stable Diffusion: pictures to latents and back, float32."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.autoencoder import Decoder, Encoder, in_slices
from asg_jax.models.layers.convolution import ResidualBlock
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.norms import GroupNorm


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the autoencoder; defaults are those of FLUX."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    latent_channels: int = 16
    picture_channels: int = 3
    scale: float = 0.3611
    shift: float = 0.1159
    groups: int = 32  # of the normalisation
    maps: bool = False  # linear maps before the latents and after, as in Stable Diffusion

    @property
    def downsample(self) -> int:
        """Pixels per latent along a side."""
        return 2 ** (len(self.multipliers) - 1)


class AttentionBlock(nnx.Module):
    """Single-head attention over all positions, added to the input."""

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        self.norm = GroupNorm(channels, groups=groups)
        self.q = Linear(channels, channels, rngs=rngs)
        self.k = Linear(channels, channels, rngs=rngs)
        self.v = Linear(channels, channels, rngs=rngs)
        self.proj_out = Linear(channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        h = self.norm(x).reshape(x.shape[0], 1, -1, 1, x.shape[-1])
        mixed = attention(self.q(h), [Block(self.k(h), self.v(h))])
        return x + self.proj_out(mixed).reshape(x.shape)


class Middle(nnx.Module):
    """Residual, attention, residual at the lowest resolution."""

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        self.block_1 = ResidualBlock(channels, channels, groups=groups, rngs=rngs)
        self.attn_1 = AttentionBlock(channels, groups, rngs=rngs)
        self.block_2 = ResidualBlock(channels, channels, groups=groups, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        return self.block_2(self.attn_1(self.block_1(x)))


class VAE(nnx.Module):
    """Encoder and decoder around scaled latents, scale * (z - shift)."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        widths = [config.channels * m for m in config.multipliers]
        sizes = widths, config.blocks, config.groups, Middle
        moments = 2 * config.latent_channels  # mean and log-variance
        self.encoder = Encoder((config.picture_channels, moments), *sizes, rngs=rngs)
        self.decoder = Decoder((config.latent_channels, config.picture_channels), *sizes, rngs=rngs)
        latents = config.latent_channels
        self.quant = Linear(moments, moments, rngs=rngs) if config.maps else None
        self.post_quant = Linear(latents, latents, rngs=rngs) if config.maps else None
        self.config = config

    def posterior(
        self, x: Float[Array, "B H W 3"]
    ) -> tuple[Float[Array, "B h w C"], Float[Array, "B h w C"]]:
        """Mean and log-variance of the latents of pictures in [-1, 1], not scaled."""
        moments = in_slices(self.encoder, x, math.prod(x.shape[1:3]))
        mean, log_variance = jnp.split(
            moments if self.quant is None else self.quant(moments), 2, axis=-1
        )
        return mean, log_variance

    def picture(self, z: Float[Array, "B h w C"]) -> Float[Array, "B H W 3"]:
        """Pictures in about [-1, 1] of latents that are not scaled."""
        pixels = math.prod(z.shape[1:3]) * self.config.downsample**2
        z = z if self.post_quant is None else self.post_quant(z)
        return in_slices(self.decoder, z, pixels)

    def encode(
        self, x: Float[Array, "B H W 3"], key: Key[Array, ""] | None
    ) -> Float[Array, "B h w C"]:
        """Scaled latents of pictures in [-1, 1]: a sample of the posterior, or its mean.

        A batch shares one size; smaller pictures are padded with zeros at the bottom and right,
        which the normalisation and the attention see.
        """
        mean, log_variance = self.posterior(x)
        noise = 0.0 if key is None else jax.random.normal(key, mean.shape)
        z = mean + jnp.exp(0.5 * log_variance) * noise
        return self.config.scale * (z - self.config.shift)

    def decode(self, latents: Float[Array, "B h w C"]) -> Float[Array, "B H W 3"]:
        """Pictures in about [-1, 1], not clipped."""
        return self.picture(latents / self.config.scale + self.config.shift)

    def loss(
        self, pixels: Float[Array, "B H W 3"], key: Key[Array, ""], kl: float
    ) -> Float[Array, ""]:
        """Absolute and squared error of pictures in [0, 1], plus `kl` times the divergence.

        The divergence per number of the posterior from the standard normal distribution.
        (Auto-encoding variational Bayes, arXiv 1312.6114.)
        """
        picture = pixels * 2 - 1
        mean, log_variance = self.posterior(picture)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        error = self.picture(z) - picture
        divergence = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance)
        return jnp.mean(jnp.abs(error) + 2 * error**2) + kl * divergence.mean()
