"""VARGPT-v1.1 as a backbone: the protocol's functions on the NNX network."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from asg_jax.backbone import (
    Bits,
    Draw,
    Params,
    Prompts,
    Sampler,
    Spec,
    State,
    Target,
)
from asg_jax.models.layers.backbone import TextBackbone
from asg_jax.models.vargpt import drawing
from asg_jax.models.vargpt.config import VargptConfig
from asg_jax.models.vargpt.drawing import Condition
from asg_jax.models.vargpt.model import Vargpt
from asg_jax.models.vargpt.quantizer import dequantize, random_flips


@dataclass(frozen=True)
class VargptBackbone(TextBackbone[Vargpt]):
    """Implements `asg_jax.backbone.Backbone`; hashable, so it can be a static argument of jit.

    A target's values are bits, 0 or 1. With a key, `encode_target` adds 2 where the bit enters the
    network flipped, while its label stays (bitwise self-correction, arXiv 2412.04431).
    """

    network: ClassVar = Vargpt
    config: VargptConfig

    @property
    def spec(self) -> Spec:
        config = self.config
        return Spec(
            kind="bits",
            steps=config.scales,
            unrolled=True,
            token_pixels=config.vae.downsample,
            token_channels=config.vae.bits,
            max_grid=config.square,
            axes=3,
            vocabulary=config.language.vocabulary,
            grids=config.grids,
        )

    def encode_target(
        self, params: Params, pixels: Float[Array, "B H W 3"], key: Key[Array, ""] | None
    ) -> Target:
        side, bits = self.config.vae.downsample, self.config.vae.bits
        grid = pixels.shape[1] // side, pixels.shape[2] // side
        schedule, vae = self.config.schedule(grid), self.model(params).vae
        if key is None:
            return Target(vae.encode(pixels * 2 - 1, schedule), grid)
        flips = random_flips(key, pixels.shape[:1], bits, schedule)
        return Target(vae.encode(pixels * 2 - 1, schedule, flips) + 2 * flips, grid)

    def encode_latents(self, params: Params, target: Target) -> Float[Array, "B L D"]:
        model, schedule = self.model(params), self.config.schedule(target.grid)
        modulation = model.decoder.modulation(jnp.zeros(target.values.shape[0], bool))
        tokens = model.sequence(modulation.first, entering(target)[:, None], schedule)
        return model.to_language(tokens[:, 0].astype(self.config.language.dtype))

    def condition(self, params: Params, prompts: Prompts, keys: Key[Array, " B"]) -> Condition:
        return drawing.condition(self.model(params), prompts.main)

    def start(
        self, params: Params, condition: Condition, keys: Key[Array, "B G"], sampler: Sampler
    ) -> State:
        return drawing.start(self.config, condition, keys, sampler)

    def step(
        self,
        params: Params,
        condition: Condition,
        state: State,
        i: int | Int[Array, ""],
        sampler: Sampler,
    ) -> State:
        return drawing.step(self.model(params), condition, state, operator.index(i), sampler)

    def preview(
        self, params: Params, condition: Condition, state: State, sampler: Sampler
    ) -> Target:
        # Scales that are still to come count as zeros.
        return Target(drawing.trace_of(state).bits, sampler.grid)

    def pixels(
        self, params: Params, condition: Condition, target: Target, keys: Key[Array, "B G"]
    ) -> Float[Array, "B G H W 3"]:
        batch = target.values.shape[:2]
        total = dequantize(entering(target), self.config.schedule(target.grid))[1]
        decoded = self.model(params).vae.decode(total.reshape(-1, *total.shape[2:]))
        return (decoded * 0.5 + 0.5).reshape(*batch, *decoded.shape[1:])

    def velocity(
        self,
        params: Params,
        condition: Condition,
        x: Float[Array, "B G L C"],
        t: Float[Array, "B G"],
        grid: tuple[int, int],
    ) -> NoReturn:
        raise ValueError("a backbone that draws bits has no velocity; compare its terms")

    def terms(
        self,
        params: Params,
        condition: Condition,
        target: Target,
        draw: Draw | None,
        sampler: Sampler | None = None,
    ) -> Bits:
        model, schedule = self.model(params), self.config.schedule(target.grid)
        branch = condition.main if sampler is None else drawing.branch_of(condition, sampler)
        assert branch.prefix is not None  # only the release's own rollouts forget it
        first, bits = branch.modulation.first, entering(target)
        bits = jnp.repeat(bits, first.shape[0] // bits.shape[0], axis=0)
        hidden = model.language_states(
            branch.prefix, model.sequence(first, bits, schedule), schedule
        )
        logits = model.decoder_logits(branch, hidden, schedule)
        if sampler is not None:
            logits = drawing.guided_logits(logits, sampler)
        return Bits(logits, target.values & 1)


def entering(target: Target) -> Int[Array, "*batch L C"]:
    """The bits that enter the network: the labels, flipped where 2 was added."""
    return (target.values & 1) ^ (target.values >> 1)
