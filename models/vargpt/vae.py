"""The picture tokenizer: a convolutional autoencoder around bits, channels last, float32."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from asg_jax.models.layers.autoencoder import Decoder, Encoder, in_slices
from asg_jax.models.vargpt.quantizer import quantize, residuals
from asg_jax.models.vargpt.scales import Schedule


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the tokenizer; defaults are those of VARGPT-v1.1."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    blocks: int = 2
    bits: int = 32  # per latent
    groups: int = 32  # of the normalisation

    @property
    def downsample(self) -> int:
        """Pixels per latent along a side."""
        return 2 ** (len(self.multipliers) - 1)


class VAE(nnx.Module):
    """Encoder to raw features, whose signs are the bits, and decoder from summed codes."""

    def __init__(self, config: VAEConfig, *, rngs: nnx.Rngs):
        widths = [config.channels * m for m in config.multipliers]
        sizes = widths, config.blocks, config.groups
        self.encoder = Encoder((3, config.bits), *sizes, rngs=rngs)
        self.decoder = Decoder((config.bits, 3), *sizes, rngs=rngs)
        self.config = config

    def encode(
        self,
        x: Float[Array, "B H W 3"],
        schedule: Schedule,
        flips: Bool[Array, "B L C"] | None = None,
    ) -> Int[Array, "B L C"]:
        """Bits of pictures in [-1, 1]; see `quantize`."""
        features = in_slices(self.encoder, x, math.prod(x.shape[1:3]))
        return quantize(features.astype(jnp.float32), schedule, flips)

    def decode(self, total: Float[Array, "B h w C"]) -> Float[Array, "B H W 3"]:
        """Pictures in [-1, 1] of summed codes."""
        pixels = math.prod(total.shape[1:3]) * self.config.downsample**2
        return jnp.clip(in_slices(self.decoder, total, pixels), -1, 1)

    def loss(
        self, x: Float[Array, "B H W 3"], schedule: Schedule, weight: float
    ) -> Float[Array, ""]:
        """What teaches the autoencoder: error of the picture, and bits that are clear and even.

        Absolute and squared error of pictures in [-1, 1] that went through the bits, gradients
        straight through; plus `weight` times the distance of the features from their codes, the
        entropy of every bit given its picture (it halves the share of bits that pixel noise
        flips), and what each bit lacks of being 1 half of the time, in nats. (arXiv 2406.07548,
        section 3.)
        """
        features = self.encoder(x)
        left, total = residuals(features, schedule)
        through = features + jax.lax.stop_gradient(total - features)
        error = self.decoder(through) - x
        distance = jnp.mean((features - total) ** 2)
        unclear = _entropy(_share(left)).mean()
        uneven = math.log(2) - _entropy(_share(features).mean((0, 1, 2))).mean()
        return jnp.mean(jnp.abs(error) + 2 * error**2) + weight * (
            2 * distance + unclear / 2 + uneven
        )


def _share(x: Float[Array, "*batch C"]) -> Float[Array, "*batch C"]:
    """Softened signs: the probability of a bit to be 1."""
    return jax.nn.sigmoid(4 * math.sqrt(x.shape[-1]) * x)


def _entropy(share: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Of bits, in nats."""
    return -(share * jnp.log(share + 1e-6) + (1 - share) * jnp.log(1 - share + 1e-6))
