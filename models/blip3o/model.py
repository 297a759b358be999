"""The network of BLIP3o: Qwen2.5-VL, queries, transformer of the flow, decoder of pixels."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from asg_jax.backbone import Image, Prompt
from asg_jax.models.blip3o.config import Blip3oConfig
from asg_jax.models.blip3o.dit import CaptionContext, DiT
from asg_jax.models.blip3o.eva import EVA
from asg_jax.models.blip3o.unet import UNet
from asg_jax.models.blip3o.vision import WindowVisionTower
from asg_jax.models.layers.context import states
from asg_jax.models.layers.language import LanguageModel
from asg_jax.models.layers.vae import VAE

TRAIN_TIMES = 1000  # the transformer has learned times k / 1000


def told_times(t: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """What the transformer is told of shares t of noise: whole thousandths, as it has learned.

    They are cut off. What is added is more than rounding and less than a step between times.
    """
    return jnp.floor(TRAIN_TIMES * t + 1e-3)


class Blip3o(nnx.Module):
    """All parameters."""

    def __init__(self, config: Blip3oConfig, *, rngs: nnx.Rngs):
        width = config.language.width
        self.config = config
        self.language = LanguageModel(config.language, rngs=rngs)
        self.vision = WindowVisionTower(config.vision, width, rngs=rngs)
        self.queries = nnx.Param(jax.random.normal(rngs.params(), (config.queries, width)))
        self.dit = DiT(config.dit, width, rngs=rngs)
        self.eva = EVA(config.eva, rngs=rngs) if config.targets else None
        self.unet = UNet(config.unet, rngs=rngs)
        self.vae = VAE(config.vae, rngs=rngs)

    def image_rows(self, image: Image) -> Float[Array, "B M D"]:
        """Vision features as the language model reads them."""
        return self.vision(image).astype(self.config.language.dtype)

    def query_states(self, prompt: Prompt) -> Float[Array, "B Q D"]:
        """Final states of the queries after prompts that end in the token that starts a picture.

        The queries follow the last real row with plain indexes, and see what stands before them.
        """
        return states(self.language, self._with_queries(prompt))[:, -self.config.queries :]

    def captions(self, prompt: Prompt) -> CaptionContext:
        """Prompts as the transformer reads them; an empty one is the null caption."""
        z, told = self.query_states(prompt), prompt.mask.any(1)
        return self.dit.caption(z * told[:, None, None])

    def null_caption(self) -> CaptionContext:
        """The condition of guidance and of dropped prompts: states of zero, one for all queries."""
        return self.dit.caption(jnp.zeros((1, 1, self.config.language.width)))

    def velocity(
        self,
        x: Float[Array, "B G L C"],
        t: Float[Array, "B G"],
        caption: CaptionContext,
        null: CaptionContext | None = None,
    ) -> tuple[Float[Array, "B G L C"], ...]:
        """Velocity at shares t of noise, under the caption and (if given) under `null`."""
        return self.dit(x, told_times(t), caption, null)

    def _with_queries(self, prompt: Prompt) -> Prompt:
        batch, rows = prompt.ids.shape
        count, axes = self.config.queries, prompt.positions.shape[-1]
        step = jnp.arange(count)
        queries = self.queries[...].astype(self.config.language.dtype)
        features = jnp.broadcast_to(queries, (batch, *queries.shape))
        known = 0
        if prompt.features is not None:
            known = prompt.features.shape[1]
            features = jnp.concatenate([prompt.features.astype(features.dtype), features], axis=1)
        following = prompt.mask.sum(1)[:, None] + step
        last = jnp.where(prompt.mask, prompt.order, -1).max(1)
        every = jnp.broadcast_to(step, (batch, count))
        join = lambda *parts: jnp.concatenate(parts, axis=1)
        return replace(
            prompt,
            ids=join(prompt.ids, jnp.zeros_like(every, prompt.ids.dtype)),
            slot=join(prompt.slot, known + every),
            positions=join(
                prompt.positions,
                jnp.broadcast_to(following[..., None], (batch, count, axes)),
            ),
            order=join(prompt.order, last[:, None] + 1 + step),
            mask=join(prompt.mask, jnp.ones_like(every, bool)),
            features=features,
            causal=False,  # the queries do not see the padding before them
        )
