"""The network of VARGPT-v1.1: Qwen2-VL, visual decoder, the projectors between them, tokenizer."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from asg_jax.backbone import Image, Prefix
from asg_jax.models.layers.attention import Block
from asg_jax.models.layers.context import prefix_block
from asg_jax.models.layers.language import LanguageModel
from asg_jax.models.layers.mlp import MLP
from asg_jax.models.vargpt.config import VargptConfig
from asg_jax.models.vargpt.decoder import Modulation, ScaleDecoder
from asg_jax.models.vargpt.quantizer import dequantize
from asg_jax.models.vargpt.scales import Schedule
from asg_jax.models.vargpt.vae import VAE
from asg_jax.models.vargpt.vision import VisionTower
from asg_jax.pytree import pytree


@pytree
class Branch:
    """A prompt as the visual decoder needs it. An absent prompt has an empty prefix.

    Attributes:
      prefix: the prompt in the language model; None where it never sees a prompt.
      context: keys and values of the prompt in every block of the visual decoder.
      modulation: the condition path.
    """

    prefix: Prefix | None
    context: Block
    modulation: Modulation


class Vargpt(nnx.Module):
    """All parameters."""

    def __init__(self, config: VargptConfig, *, rngs: nnx.Rngs):
        width, inner = config.language.width, config.decoder.width
        self.config = config
        self.language = LanguageModel(config.language, rngs=rngs)
        self.vision = VisionTower(config.vision, width, rngs=rngs)
        self.to_language = MLP(inner, inner, width, "gelu", rngs=rngs)
        self.from_language = MLP(width, width, inner, "gelu", rngs=rngs)
        self.decoder = ScaleDecoder(config.decoder, config.vae.bits, rngs=rngs)
        self.vae = VAE(config.vae, rngs=rngs)

    def image_rows(self, image: Image) -> Float[Array, "B M D"]:
        """Vision features as the language model reads them."""
        return self.vision(image).astype(self.config.language.dtype)

    def sequence(
        self,
        first: Float[Array, "B C"],
        bits: Int[Array, "B G L bits"],
        schedule: Schedule,
    ) -> Float[Array, "B G L C"]:
        """Tokens of a known picture: the first one, then the sums of coarser scales."""
        inputs = self.decoder.embed(dequantize(bits, schedule)[0])
        start = jnp.broadcast_to(first[:, None, None], (*bits.shape[:2], 1, first.shape[-1]))
        return jnp.concatenate([start, inputs], axis=2)

    def language_states(
        self, prefix: Prefix, tokens: Float[Array, "B G L C"], schedule: Schedule
    ) -> Float[Array, "B G L D"]:
        """States of all tokens of a picture after a prompt, causal within the scales too.

        After an absent prompt every scale is a text of its own, as guidance draws it.
        """
        absent = ~prefix.mask.any(-1)
        count = np.arange(schedule.length)
        apart = schedule.levels[:, None] != schedule.levels
        mask = jnp.asarray(np.tril(np.ones((schedule.length,) * 2, bool)))
        mask = mask & ~(absent[:, None, None, None] & jnp.asarray(apart))
        following = prefix.position[:, None] + count
        positions = jnp.where(absent[:, None], jnp.asarray(schedule.places), following)
        rows = (self.to_language(tokens.astype(self.config.language.dtype)),)
        past = (prefix_block(prefix),)
        (hidden,), _ = self.language(rows, _per_sample(positions, tokens.shape[1]), mask, past)
        return hidden

    def decoder_tokens(
        self, hidden: Float[Array, "B G n D"], levels: Int[np.ndarray, " n"]
    ) -> Float[Array, "B G n C"]:
        """States of the language model as tokens of the visual decoder."""
        rows = self.from_language(hidden).astype(self.config.decoder.dtype)
        return rows + self.decoder.level(jnp.asarray(levels)).astype(rows.dtype)

    def decoder_logits(
        self, branch: Branch, hidden: Float[Array, "B G L D"], schedule: Schedule
    ) -> Float[Array, "B G L bits 2"]:
        """Logits of all scales at once: every scale sees itself and the coarser ones."""
        x = self.decoder_tokens(hidden, schedule.levels)
        mask = jnp.asarray(scale_causal(schedule))[None, None]
        x, _ = self.decoder.run(x, branch.modulation, self.angles(schedule), branch.context, mask)
        return self.decoder.logits(x, branch.modulation)

    def angles(self, schedule: Schedule) -> Float[np.ndarray, "L half"]:
        """Rotary angles of the visual decoder."""
        config = self.config.decoder
        return schedule.angles(config.width // config.heads // 2)


def _per_sample(positions: Int[Array, "B n"], samples: int) -> Int[Array, "B G n 1"]:
    shape = (positions.shape[0], samples, positions.shape[1], 1)
    return jnp.broadcast_to(positions[:, None, :, None], shape)


def scale_causal(schedule: Schedule) -> Bool[np.ndarray, "L L"]:
    """Which tokens (last axis) each token sees."""
    return schedule.levels[:, None] >= schedule.levels
