"""What VARGPT-v1.1 offers the programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jax import Array

from asg_jax.backbone import Params, PyTree
from asg_jax.models.layers.qwen.config import Pixels
from asg_jax.models.layers.qwen.vision import VisionConfig
from asg_jax.models.registry import Family, Pictures, Stage
from asg_jax.models.tokenizers import ByteTokenizer, write_word_tokenizer
from asg_jax.models.vargpt import checkpoint
from asg_jax.models.vargpt.adapters import ROLES
from asg_jax.models.vargpt.backbone import VargptBackbone
from asg_jax.models.vargpt.config import (
    MAIN,
    OWN,
    PICTURES,
    SpecialTokens,
    VargptConfig,
    describes,
    write_config,
)
from asg_jax.models.vargpt.decoder import DecoderConfig
from asg_jax.models.vargpt.processor import VargptProcessor
from asg_jax.models.vargpt.sharding import RULES
from asg_jax.models.vargpt.vae import VAEConfig

_FULL = VargptConfig()
HEADERS = ("user", "assistant")  # words of the chat format
# Learns rendered scenes of 32 x 32 pixels: 4 vision tokens, 37 drawn ones of 8 bits on four scales.
_TINY = VargptConfig(
    language=replace(
        _FULL.language,
        vocabulary=96,
        width=128,
        layers=4,
        heads=4,
        kv_heads=4,
        head_width=32,
        inner=320,
        theta=1e4,  # with 10, what is said is matched to what is seen far more slowly
        sections=(4, 6, 6),
    ),
    vision=VisionConfig(width=128, layers=2, heads=4, inner=256, patch=8, frames=1),
    decoder=DecoderConfig(width=128, layers=4, heads=4, inner=320, text_rows=64, levels=4, chunk=2),
    vae=VAEConfig(channels=8, multipliers=(1, 2, 4, 8), blocks=1, bits=8, groups=4),
    tokens=SpecialTokens(*range(80, 89)),
    pixels=Pixels(32 * 32, 32 * 32),
    # The last one spreads the 2-D positions.
    templates=(((1, 1), (2, 2), (4, 4), (4, 4), (16, 16)),),
    scales=4,
    system="",
)
SMALL = {"vargpt-tiny": _TINY}


def _open(folder: Path, dtype: str) -> tuple[VargptBackbone, VargptProcessor]:
    backbone = checkpoint.open_config(folder, dtype)
    return backbone, VargptProcessor.load(folder, backbone.config)


def _random(config: VargptConfig, dtype: str) -> tuple[VargptBackbone, VargptProcessor]:
    config = config.compute(dtype)
    return VargptBackbone(config), VargptProcessor(config, ByteTokenizer(config.tokens.specials()))


def _create(size: str, folder: Path, words: Sequence[str]) -> None:
    config = SMALL[size]
    write_config(config, folder)
    write_word_tokenizer(folder, [*words, *HEADERS], config.tokens.specials())


def _autoencoder_loss(
    backbone: VargptBackbone, base: PyTree, pictures: Pictures, key: Array, weight: float, _: PyTree
) -> Array:
    config, pixels = backbone.config, pictures.pixels
    grid = pixels.shape[1] // config.vae.downsample, pixels.shape[2] // config.vae.downsample
    return backbone.model(Params(base)).vae.loss(pixels * 2 - 1, config.schedule(grid), weight)


FAMILY = Family(
    describes=describes,
    open=_open,
    stored_dtype=checkpoint.stored_dtype,
    load=lambda folder, dtype, mesh: checkpoint.load(folder, dtype, mesh)[1],
    export=checkpoint.export,
    files=(MAIN, OWN, PICTURES),
    official_module=lambda backbone, path: checkpoint.official_module(backbone.config, path),
    rules=RULES,
    roles=ROLES,
    sizes={"vargpt-7b": _FULL},
    random=_random,
    official={"VARGPT-v1.1": "vargpt-7b"},
    small=tuple(SMALL),
    create=_create,
    stages=(Stage("autoencoder", "vae", _autoencoder_loss),),
    draws=r"^decoder\.|^(to|from)_language\.",
)
