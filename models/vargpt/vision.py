"""The Qwen2-VL vision tower: pictures of any size, 2-D rotary positions, 2 x 2 patches merged."""

from __future__ import annotations

import jax
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float

from asg_jax.backbone import Image
from asg_jax.models.layers.attention import Block, attention
from asg_jax.models.layers.linear import Linear
from asg_jax.models.layers.norms import LayerNorm
from asg_jax.models.layers.qwen.vision import EPS, PatchTower, VisionConfig
from asg_jax.models.layers.rotary import rotate_halves
from asg_jax.models.layers.stack import scan_layers, stacked


def quick_gelu(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """x sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


class VisionLayer(nnx.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.norm1 = LayerNorm(width, eps=EPS)
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.norm2 = LayerNorm(width, eps=EPS)
        self.fc1 = Linear(width, config.inner, rngs=rngs)
        self.fc2 = Linear(config.inner, width, rngs=rngs)
        self.heads = config.heads

    def __call__(
        self, x: Float[Array, "B N D"], angles: Float[Array, "B N half"], mask: Bool[Array, "B N"]
    ) -> Float[Array, "B N D"]:
        q, k, v = rearrange(
            self.qkv(self.norm1(x)), "b n (three h d) -> three b n h d", three=3, h=self.heads
        )
        q, k = rotate_halves(q, angles), rotate_halves(k, angles)
        mixed = attention(q[:, None], [Block(k[:, None], v[:, None], mask[:, None, None])])
        x = x + self.proj(rearrange(mixed, "b 1 n h d -> b n (h d)"))
        return x + self.fc2(quick_gelu(self.fc1(self.norm2(x))))


class VisionTower(PatchTower):
    """Patches to features of the language model, full attention inside one picture."""

    def __init__(self, config: VisionConfig, outputs: int, *, rngs: nnx.Rngs):
        super().__init__(config, outputs, LayerNorm(config.width, eps=EPS), rngs=rngs)
        self.layers = stacked(lambda rngs: VisionLayer(config, rngs=rngs), config.layers, rngs)

    def __call__(self, image: Image) -> Float[Array, "B M D"]:
        """Features, one for the patches that are merged; M = N / merge^2."""
        angles = self.angles(image)

        def apply(layer: VisionLayer, x, _):
            return layer(x, angles, image.mask), None

        x, _ = scan_layers(apply, self.layers, self.embed(image), remat=self.config.remat)
        return self.merge(x)
