"""BLIP3o as a backbone: the protocol's functions on the NNX network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NoReturn

import jax
from jaxtyping import Array, Float, Int, Key

from asg_jax.backbone import (
    Params,
    Prompts,
    Sampler,
    Spec,
    State,
    Target,
)
from asg_jax.errors import UserError
from asg_jax.models.blip3o import drawing
from asg_jax.models.blip3o.config import Blip3oConfig
from asg_jax.models.blip3o.decoding import draw_pixels
from asg_jax.models.blip3o.drawing import Condition
from asg_jax.models.blip3o.model import Blip3o
from asg_jax.models.layers.backbone import FlowBackbone

CONVERT = (
    "the tower is published as pytorch_model.bin, a pickle, which is never read: convert it once "
    'with `python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('pytorch_model.bin', weights_only=True), 'eva_clip.safetensors')\"` "
    "and put eva_clip.safetensors beside config.json"
)


@dataclass(frozen=True)
class Blip3oBackbone(FlowBackbone[Blip3o]):
    """Implements `asg_jax.backbone.Backbone`; hashable, so it can be a static argument of jit."""

    network: ClassVar = Blip3o
    config: Blip3oConfig

    @property
    def spec(self) -> Spec:
        config, side = self.config, self.config.dit.side
        return Spec(
            kind="flow",
            steps=30,
            unrolled=False,
            token_pixels=config.decoding.size[0] // side,
            token_channels=config.dit.channels,
            max_grid=(side, side),
            axes=3,
            vocabulary=config.language.vocabulary,
            grids=((side, side),),
        )

    def with_targets(self, targets: bool) -> Blip3oBackbone:
        """The backbone with EVA-CLIP or without it."""
        return replace(self, config=replace(self.config, targets=targets))

    def encode_target(
        self, params: Params, pixels: Float[Array, "B H W 3"], key: Key[Array, ""] | None
    ) -> Target:
        """See `asg_jax.backbone.Backbone`; there is no posterior, so `key` changes nothing.

        Raises:
          UserError: the model was opened without its target encoder.
        """
        eva, side = self.model(params).eva, self.config.dit.side
        if eva is None:
            raise UserError(
                "the EVA-CLIP tower, which turns pictures into targets, is not loaded; open the "
                f"model with targets=True ({CONVERT})."
            )
        return Target(jax.lax.stop_gradient(eva.targets(pixels)), (side, side))

    def encode_latents(self, params: Params, target: Target) -> NoReturn:
        raise ValueError("BLIP3o reads no features that it draws; show it the picture instead")

    def condition(self, params: Params, prompts: Prompts, keys: Key[Array, " B"]) -> Condition:
        model, blank = self.model(params), None
        null = model.null_caption()
        if prompts.negative is not None and self.config.decoding.guidance > 1:
            # Nothing that learns reads it, and no gradient shall keep its many steps.
            still = self.model(jax.lax.stop_gradient(params))
            blank = drawing.blank_features(still, prompts.negative, still.null_caption())
        return Condition(model.captions(prompts.main), null, blank)

    def start(
        self, params: Params, condition: Condition, keys: Key[Array, "B G"], sampler: Sampler
    ) -> State:
        return drawing.start(keys, self.config.dit.channels, sampler)

    def step(
        self,
        params: Params,
        condition: Condition,
        state: State,
        i: int | Int[Array, ""],
        sampler: Sampler,
    ) -> State:
        captions = condition.main, condition.null
        return drawing.step(self.model(params), captions, state, i, sampler)

    def pixels(
        self, params: Params, condition: Condition, target: Target, keys: Key[Array, "B G"]
    ) -> Float[Array, "B G H W 3"]:
        return draw_pixels(self.model(params), target.values, condition.blank, keys)

    def velocity(
        self,
        params: Params,
        condition: Condition,
        x: Float[Array, "B G L C"],
        t: Float[Array, "B G"],
        grid: tuple[int, int],
    ) -> Float[Array, "B G L C"]:
        return self.model(params).velocity(x, t, condition.main)[0]
