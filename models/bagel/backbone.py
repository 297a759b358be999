"""BAGEL as a backbone: the protocol's functions on the NNX network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from asg_jax.backbone import (
    Params,
    Prompts,
    Sampler,
    Spec,
    State,
    Target,
)
from asg_jax.models.bagel import drawing
from asg_jax.models.bagel.config import BagelConfig
from asg_jax.models.bagel.drawing import Condition
from asg_jax.models.bagel.model import Bagel
from asg_jax.models.layers.backbone import FlowBackbone


@dataclass(frozen=True)
class BagelBackbone(FlowBackbone[Bagel]):
    """Implements `asg_jax.backbone.Backbone`; hashable, so it can be a static argument of jit."""

    network: ClassVar = Bagel
    config: BagelConfig

    @property
    def spec(self) -> Spec:
        config = self.config
        return Spec(
            kind="flow",
            steps=49,
            unrolled=False,
            token_pixels=config.token_pixels,
            token_channels=config.token_channels,
            max_grid=(config.latent_side, config.latent_side),
            axes=1,
            vocabulary=config.language.vocabulary,
        )

    def encode_target(
        self, params: Params, pixels: Float[Array, "B H W 3"], key: Key[Array, ""] | None
    ) -> Target:
        model, side = self.model(params), self.config.token_pixels
        tokens = model.patchify(model.vae.encode(pixels * 2 - 1, key))
        return Target(tokens, (pixels.shape[1] // side, pixels.shape[2] // side))

    def encode_latents(self, params: Params, target: Target) -> Float[Array, "B L D"]:
        model = self.model(params)
        clean = model.embed_time(jnp.zeros((target.values.shape[0], 1)))
        return model.latent_rows(target.values, clean, model.places(target.grid))

    def condition(self, params: Params, prompts: Prompts, keys: Key[Array, " B"]) -> Condition:
        return drawing.condition(self.model(params), prompts)

    def start(
        self, params: Params, condition: Condition, keys: Key[Array, "B G"], sampler: Sampler
    ) -> State:
        return drawing.start(keys, self.config.token_channels, sampler)

    def step(
        self,
        params: Params,
        condition: Condition,
        state: State,
        i: int | Int[Array, ""],
        sampler: Sampler,
    ) -> State:
        return drawing.step(self.model(params), condition, state, i, sampler)

    def pixels(
        self, params: Params, condition: Condition, target: Target, keys: Key[Array, "B G"]
    ) -> Float[Array, "B G H W 3"]:
        model, batch = self.model(params), target.values.shape[:2]
        latents = model.unpatchify(target.values, target.grid)
        decoded = model.vae.decode(latents.reshape(-1, *latents.shape[2:]))
        return jnp.clip(decoded * 0.5 + 0.5, 0, 1).reshape(*batch, *decoded.shape[1:])

    def velocity(
        self,
        params: Params,
        condition: Condition,
        x: Float[Array, "B G L C"],
        t: Float[Array, "B G"],
        grid: tuple[int, int],
    ) -> Float[Array, "B G L C"]:
        return self.model(params).velocity(condition.main, x, t, grid)
