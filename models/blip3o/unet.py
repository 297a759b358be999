"""The UNet that turns CLIP features into latents of the autoencoder, channels last.

The topology of Stable Diffusion XL (arXiv 2307.01952), which reads the features as its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.convolution import Conv, upsample
from asg_jax.models.layers.embeddings import TimestepEmbedding, sinusoid
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.layers.norms import GroupNorm, LayerNorm
from asg_jax.models.layers.stack import scan_layers, stacked
from asg_jax.pytree import pytree

EPS, ENTRY_EPS = 1e-5, 1e-6  # of all norms, but for the one at the entry of a transformer
SIZES = 6  # numbers that tell the size and the crop of a picture

KeysValues = tuple[Array, Array]
Picture = Float[Array, "R _ _ _"]  # (rows, height, width, channels)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the network; defaults are those of SDXL with the width of EVA-CLIP E/14+."""

    channels: tuple[int, ...] = (320, 640, 1280)  # of every level, the full resolution first
    heads: tuple[int, ...] = (5, 10, 20)
    depths: tuple[int, ...] = (0, 2, 10)  # of the transformers of a level; 0 is none
    blocks: int = 2  # residual blocks of a level on the way down; one more on the way up
    groups: int = 32
    latents: int = 4  # channels
    context: int = 1792  # width of a feature
    size_features: int = 256  # sinusoids for each of the numbers of a size
    dtype: str = "float32"

    @property
    def embedding(self) -> int:
        """Width of the embedding of time and size."""
        return 4 * self.channels[0]

    @property
    def stride(self) -> int:
        """Latents along a side must be a multiple of this."""
        return 2 ** (len(self.channels) - 1)


@pytree
class Guide:
    """All that the network reads of features and sizes, whatever the latents and the time.

    Attributes:
      embedding: what they add to the embedding of the time.
      contexts: keys and values of every transformer, in the order in which the network runs them.
    """

    embedding: Float[Array, "R E"]
    contexts: tuple[KeysValues, ...]


class TimedBlock(nnx.Module):
    """A residual block that hears the time between its convolutions."""

    def __init__(self, inputs: int, outputs: int, config: UNetConfig, *, rngs: nnx.Rngs):
        self.norm1 = GroupNorm(inputs, groups=config.groups, eps=EPS)
        self.conv1 = Conv(inputs, outputs, 3, rngs=rngs)
        self.time = Linear(config.embedding, outputs, rngs=rngs)
        self.norm2 = GroupNorm(outputs, groups=config.groups, eps=EPS)
        self.conv2 = Conv(outputs, outputs, 3, rngs=rngs)
        self.shortcut = Linear(inputs, outputs, rngs=rngs) if inputs != outputs else None

    def __call__(self, x: Picture, embedding: Float[Array, "R E"]) -> Picture:
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        h = h + self.time(jax.nn.silu(embedding))[:, None, None]
        h = self.conv2(jax.nn.silu(self.norm2(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class HeadsAttention(nnx.Module):
    """Attention of rows to themselves or to a context; only its output has a bias."""

    def __init__(self, width: int, context: int, heads: int, *, rngs: nnx.Rngs):
        self.to_q = Linear(width, width, bias=False, rngs=rngs)
        self.to_k = Linear(context, width, bias=False, rngs=rngs)
        self.to_v = Linear(context, width, bias=False, rngs=rngs)
        self.to_out = Linear(width, width, rngs=rngs)
        self.heads = heads

    def keys_values(self, context: Float[Array, "R T C"]) -> KeysValues:
        """Keys and values of a context."""
        return self._cut(self.to_k(context)), self._cut(self.to_v(context))

    def __call__(self, x: Float[Array, "R N W"], context: KeysValues) -> Float[Array, "R N W"]:
        mixed = attention(self._cut(self.to_q(x))[:, None], [Block(*context)])
        return self.to_out(rearrange(mixed, "r 1 n h d -> r n (h d)"))

    def _cut(self, x: Array) -> Array:
        return rearrange(x, "r n (h d) -> r n h d", h=self.heads)


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention and a GELU-gated MLP."""

    def __init__(self, width: int, context: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1, self.norm2, self.norm3 = (LayerNorm(width, eps=EPS) for _ in range(3))
        self.attn1 = HeadsAttention(width, width, heads, rngs=rngs)
        self.attn2 = HeadsAttention(width, context, heads, rngs=rngs)
        self.ff_in = Linear(width, 8 * width, rngs=rngs)
        self.ff_out = Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "R N W"], context: KeysValues) -> Float[Array, "R N W"]:
        h = self.norm1(x)
        x = x + self.attn1(h, self.attn1.keys_values(h))
        x = x + self.attn2(self.norm2(x), context)
        value, gate = jnp.split(self.ff_in(self.norm3(x)), 2, axis=-1)
        return x + self.ff_out(value * jax.nn.gelu(gate, approximate=False))


class Transformer(nnx.Module):
    """Blocks over all places of a picture, added to it."""

    def __init__(self, width: int, heads: int, depth: int, config: UNetConfig, *, rngs: nnx.Rngs):
        self.norm = GroupNorm(width, groups=config.groups, eps=ENTRY_EPS)
        self.proj_in = Linear(width, width, rngs=rngs)
        make = lambda rngs: TransformerBlock(width, config.context, heads, rngs=rngs)
        self.blocks = stacked(make, depth, rngs)
        self.proj_out = Linear(width, width, rngs=rngs)

    def contexts(self, features: Float[Array, "R T C"]) -> KeysValues:
        """Keys and values of all blocks."""
        apply = lambda block, carry, _: (carry, block.attn2.keys_values(features))
        return scan_layers(apply, self.blocks, features)[1]

    def __call__(self, x: Picture, contexts: KeysValues) -> Picture:
        rows = self.proj_in(rearrange(self.norm(x), "r h w c -> r (h w) c"))
        apply = lambda block, rows, context: (block(rows, context), None)
        rows, _ = scan_layers(apply, self.blocks, rows, contexts)
        return x + self.proj_out(rows).reshape(x.shape)


class UNetLevel(nnx.Module):
    """Residual blocks at one resolution, a transformer after each, and what leaves it."""

    def __init__(
        self,
        inputs: tuple[int, ...],
        level: int,
        resample: bool,
        config: UNetConfig,
        *,
        transformers: int | None = None,
        rngs: nnx.Rngs,
    ):
        width, depth, heads = (x[level] for x in (config.channels, config.depths, config.heads))
        self.resnets = nnx.List([TimedBlock(n, width, config, rngs=rngs) for n in inputs])
        count = len(inputs) if transformers is None else transformers
        self.transformers = nnx.List(
            [
                Transformer(width, heads, depth, config, rngs=rngs)
                for _ in range(count if depth else 0)
            ]
        )
        self.resample = Conv(width, width, 3, rngs=rngs) if resample else None

    def block(
        self, n: int, x: Picture, embedding: Array, contexts: Iterator[KeysValues]
    ) -> Picture:
        """Residual block n and, where it has one, its transformer."""
        x = self.resnets[n](x, embedding)
        return self.transformers[n](x, next(contexts)) if n < len(self.transformers) else x

    def down(self, x: Picture, embedding: Array, contexts: Iterator[KeysValues]) -> list[Picture]:
        """States after every block and after halving the resolution; the way up reads them all."""
        states = []
        for n in range(len(self.resnets)):
            x = self.block(n, x, embedding, contexts)
            states.append(x)
        return states if self.resample is None else [*states, self.resample(x, stride=2)]

    def through(self, x: Picture, embedding: Array, contexts: Iterator[KeysValues]) -> Picture:
        """All blocks at one resolution."""
        for n in range(len(self.resnets)):
            x = self.block(n, x, embedding, contexts)
        return x

    def up(
        self, x: Picture, skips: list[Picture], embedding: Array, contexts: Iterator[KeysValues]
    ) -> Picture:
        """Takes a state of the way down off `skips` for every block; doubles the resolution."""
        for n in range(len(self.resnets)):
            joined = jnp.concatenate([x, skips.pop()], axis=-1)
            x = self.block(n, joined, embedding, contexts)
        return x if self.resample is None else upsample(x, self.resample)


class UNet(nnx.Module):
    """Predicts the noise in latents."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        channels, embedding, last = config.channels, config.embedding, len(config.channels) - 1
        added = config.context + SIZES * config.size_features
        self.config = config
        self.time = TimestepEmbedding(embedding, features=channels[0], rngs=rngs)
        self.sizes = MLP(added, embedding, embedding, "silu", rngs=rngs)
        self.conv_in = Conv(config.latents, channels[0], 3, rngs=rngs)
        down, skips = [], [channels[0]]
        for level, width in enumerate(channels):
            inputs = (channels[max(level - 1, 0)], *[width] * (config.blocks - 1))
            down.append(UNetLevel(inputs, level, level < last, config, rngs=rngs))
            skips += [width] * (config.blocks + (level < last))
        middle = (channels[-1], channels[-1])
        up, before = [], channels[-1]
        self.down = nnx.List(down)
        self.mid = UNetLevel(middle, last, False, config, transformers=1, rngs=rngs)
        for level in reversed(range(len(channels))):
            inputs = [before, *[channels[level]] * config.blocks]
            joined = tuple(n + skips.pop() for n in inputs)
            up.append(UNetLevel(joined, level, level > 0, config, rngs=rngs))
            before = channels[level]
        self.up = nnx.List(up)  # the lowest resolution first
        self.norm_out = GroupNorm(channels[0], groups=config.groups, eps=EPS)
        self.conv_out = Conv(channels[0], config.latents, 3, rngs=rngs)

    def guide(self, features: Float[Array, "R T C"], sizes: Float[Array, "R 6"]) -> Guide:
        """Projects features and sizes, once for all steps; the mean feature is the pooled one."""
        features = features.astype(self.config.dtype)
        told = rearrange(sinusoid(sizes, self.config.size_features), "r n c -> r (n c)")
        pooled = jnp.concatenate([features.mean(1), told.astype(features.dtype)], axis=-1)
        contexts = tuple(t.contexts(features) for t in self._transformers())
        return Guide(self.sizes(pooled), contexts)

    def __call__(
        self, latents: Picture, timestep: Float[Array, "*R"] | float, guide: Guide
    ) -> Picture:
        """The noise in latents at times (0 to 1000), one row of the guide for each."""
        dtype = self.config.dtype
        times = jnp.atleast_1d(jnp.asarray(timestep, jnp.float32))
        embedding = self.time(times, dtype) + guide.embedding
        contexts = iter(guide.contexts)
        skips = [self.conv_in(latents.astype(dtype))]
        for level in self.down:
            skips += level.down(skips[-1], embedding, contexts)
        x = self.mid.through(skips[-1], embedding, contexts)
        for level in self.up:
            x = level.up(x, skips, embedding, contexts)
        return self.conv_out(jax.nn.silu(self.norm_out(x))).astype(jnp.float32)

    def _transformers(self) -> Iterator[Transformer]:
        for level in (*self.down, self.mid, *self.up):
            yield from level.transformers
