"""The Qwen2.5-VL vision tower: most layers attend within windows, a few within the whole picture.

Rows travel in window order, so that a window is a run of rows (Qwen2.5-VL, arXiv 2502.13923,
section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Image
from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.mlp import GatedMLP
from asg_jax.models.layers.norms import RMSNorm
from asg_jax.models.layers.qwen.vision import EPS, PatchTower, VisionConfig
from asg_jax.models.layers.rotary import rotate_halves
from asg_jax.models.layers.stack import scan_layers, stacked

Heads = Float[Array, "B N heads width"]


@dataclass(frozen=True)
class WindowVisionConfig(VisionConfig):
    """Sizes of the tower; defaults are those of Qwen2.5-VL-7B."""

    inner: int = 3420
    window: int = 112  # pixels along a side
    full: tuple[int, ...] = (7, 15, 23, 31)  # layers that attend within the whole picture

    @property
    def window_side(self) -> int:
        """Features along a side of a window."""
        return self.window // self.patch // self.merge

    @property
    def window_rows(self) -> int:
        """Patches in a whole window."""
        return (self.window_side * self.merge) ** 2


def window_order(
    grid: Int[Array, "B 2"], count: int, config: WindowVisionConfig
) -> tuple[Int[Array, "B M"], Int[Array, "B M"]]:
    """Windows tile a picture, smaller ones at its right and lower borders.

    Args:
      grid: (height, width) in patches.
      count: features of a padded picture, M.
      config: sizes of the tower.

    Returns:
      The features in window order, padding last, and the number of the window of each, M for
      padding.
    """
    height, width = grid[:, :1] // config.merge, jnp.maximum(grid[:, 1:] // config.merge, 1)
    row, column = jnp.divmod(jnp.arange(count), width)
    side = config.window_side
    window = row // side * -(-width // side) + column // side
    window = jnp.where(jnp.arange(count) < height * width, window, count)
    order = jnp.argsort(window, axis=1, stable=True)
    return order, jnp.take_along_axis(window, order, axis=1)


def windowed_attention(
    q: Heads, k: Heads, v: Heads, window: Int[Array, "B N"], reach: int
) -> Heads:
    """Attention between rows of one window, which follow each other and are at most `reach`.

    Rows are cut into blocks of `reach`: what a block needs stands in it or in a neighbour.
    """
    count = q.shape[1]
    cut = lambda x, fill: rearrange(
        jnp.pad(
            x,
            [(0, 0), (0, -count % reach), *[(0, 0)] * (x.ndim - 2)],
            constant_values=fill,
        ),
        "b (n t) ... -> b n t ...",
        t=reach,
    )

    def around(x: Array, fill: int) -> Array:
        x = jnp.pad(cut(x, fill), [(0, 0), (1, 1), *[(0, 0)] * (x.ndim - 1)], constant_values=fill)
        return jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=2)

    mask = cut(window, -1)[..., None] == around(window, -1)[:, :, None]
    mixed = attention(cut(q, 0), [Block(around(k, 0), around(v, 0), mask)])
    return rearrange(mixed, "b n t h d -> b (n t) h d")[:, :count]


class WindowVisionLayer(nnx.Module):
    """Pre-norm attention and gated MLP."""

    def __init__(self, config: WindowVisionConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.norm1 = RMSNorm(width, eps=EPS)
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.norm2 = RMSNorm(width, eps=EPS)
        self.mlp = GatedMLP(width, config.inner, bias=True, rngs=rngs)
        self.config = config

    def __call__(
        self,
        x: Float[Array, "B N D"],
        angles: Float[Array, "B N half"],
        mask: Bool[Array, "B N"],
        window: Int[Array, "B N"],
        full: Bool[Array, ""],
    ) -> Float[Array, "B N D"]:
        config = self.config
        q, k, v = rearrange(
            self.qkv(self.norm1(x)), "b n (three h d) -> three b n h d", three=3, h=config.heads
        )
        q, k = rotate_halves(q, angles), rotate_halves(k, angles)
        whole = lambda q, k, v: attention(
            q[:, None], [Block(k[:, None], v[:, None], mask[:, None, None])]
        )[:, 0]
        within = lambda q, k, v: windowed_attention(q, k, v, window, config.window_rows)
        mixed = jax.lax.cond(full, whole, within, q, k, v)
        x = x + self.proj(rearrange(mixed, "b n h d -> b n (h d)"))
        return x + self.mlp(self.norm2(x))


class WindowVisionTower(PatchTower):
    """Patches to features of the language model."""

    def __init__(self, config: WindowVisionConfig, outputs: int, *, rngs: nnx.Rngs):
        super().__init__(config, outputs, RMSNorm(config.width, eps=EPS), rngs=rngs)
        self.layers = stacked(
            lambda rngs: WindowVisionLayer(config, rngs=rngs), config.layers, rngs
        )
        self.config: WindowVisionConfig = config

    def rows(self, image: Image) -> tuple[Float[Array, "B N W"], Int[Array, "B M"]]:
        """States after the last layer in window order, and that order of the features."""
        config, merged = self.config, self.config.merge**2
        order, window = window_order(image.grid, image.patches.shape[1] // merged, config)

        def arrange(x: Array) -> Array:
            x = x.reshape(x.shape[0], -1, merged, *x.shape[2:])
            index = order.reshape(*order.shape, *[1] * (x.ndim - 2))
            return jnp.take_along_axis(x, index, axis=1).reshape(x.shape[0], -1, *x.shape[3:])

        angles, mask = arrange(self.angles(image)), arrange(image.mask)
        window = jnp.repeat(window, merged, axis=1)

        def apply(layer: WindowVisionLayer, x, full):
            return layer(x, angles, mask, window, full), None

        full = np.isin(np.arange(config.layers), config.full)
        x = arrange(self.embed(image))
        x, _ = scan_layers(apply, self.layers, x, full, remat=config.remat)
        return x, order

    def __call__(self, image: Image) -> Float[Array, "B M D"]:
        """Features in raster order, one for the patches that are merged; M = N / merge^2."""
        x, order = self.rows(image)
        back = jnp.argsort(order, axis=1)
        return jnp.take_along_axis(self.merge(x), back[..., None], axis=1)
