"""What BAGEL offers the programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asg_jax.models.bagel import checkpoint
from asg_jax.models.bagel.adapters import ROLES
from asg_jax.models.bagel.backbone import BagelBackbone
from asg_jax.models.bagel.config import BagelConfig, Resize, SpecialTokens, write_config
from asg_jax.models.bagel.processor import BagelProcessor, specials
from asg_jax.models.bagel.sharding import RULES
from asg_jax.models.bagel.vision import VisionConfig
from asg_jax.models.layers.vae import VAEConfig
from asg_jax.models.registry import AUTOENCODER, Family
from asg_jax.models.tokenizers import ByteTokenizer, write_word_tokenizer

JSON_FILES = ("llm_config.json", "vit_config.json", "bagel_config.json")

_7B = BagelConfig()
# For measuring on a CPU: the 7B with fewer and narrower layers, 33 million parameters.
_30M = BagelConfig(
    language=replace(
        _7B.language,
        vocabulary=2048,
        width=384,
        layers=8,
        heads=6,
        kv_heads=2,
        head_width=64,
        inner=1024,
    ),
    vision=VisionConfig(width=192, layers=4, heads=4, inner=768, side=16),
    vae=VAEConfig(channels=32, multipliers=(1, 2, 2, 2), blocks=1),
    tokens=SpecialTokens(256, 257, 258, 259),
    latent_side=16,
)
# Learns rendered scenes of 32 x 32 pixels: 1.9 million parameters, 16 image tokens.
_TINY = BagelConfig(
    language=replace(
        _7B.language,
        vocabulary=80,
        width=128,
        layers=4,
        heads=4,
        kv_heads=4,
        head_width=32,
        inner=320,
        theta=1e4,
    ),
    vision=VisionConfig(width=128, layers=2, heads=4, inner=256, patch=8, side=4),
    vae=VAEConfig(
        channels=16,
        multipliers=(1, 2, 2),
        blocks=1,
        latent_channels=8,
        scale=1.0,
        shift=0.0,
        groups=4,
    ),
    tokens=SpecialTokens(76, 77, 78, 79),
    vision_resize=Resize(32, 32, 8),
    latent_resize=Resize(32, 32, 8),
    latent_side=4,
    position_period=0.33,  # with 1e4, four rows would hardly differ
)
SMALL = {"bagel-tiny": _TINY}


def describes(folder: Path) -> bool:
    """Whether the folder holds the json files of a BAGEL model."""
    return all((folder / name).exists() for name in JSON_FILES[:2])


def _open(folder: Path, dtype: str) -> tuple[BagelBackbone, BagelProcessor]:
    backbone = checkpoint.open_config(folder, dtype)
    return backbone, BagelProcessor.load(folder, backbone.config)


def _random(config: BagelConfig, dtype: str) -> tuple[BagelBackbone, BagelProcessor]:
    config = config.compute(dtype)
    return BagelBackbone(config), BagelProcessor(config, ByteTokenizer(specials(config.tokens)))


def _create(size: str, folder: Path, words: Sequence[str]) -> None:
    config = SMALL[size]
    write_config(config, folder)
    write_word_tokenizer(folder, words, specials(config.tokens))


FAMILY = Family(
    describes=describes,
    open=_open,
    stored_dtype=checkpoint.stored_dtype,
    load=lambda folder, dtype, mesh: checkpoint.load(folder, dtype, mesh)[1],
    export=checkpoint.export,
    files=JSON_FILES,
    official_module=lambda _, path: checkpoint.official_module(path),
    rules=RULES,
    roles=ROLES,
    sizes={"bagel-7b": _7B, "bagel-30m": _30M},
    random=_random,
    official={"BAGEL-7B-MoT": "bagel-7b"},
    small=tuple(SMALL),
    create=_create,
    stages=(AUTOENCODER,),
    draws=r"layers\.gen\.|gen_norm|time_embedder|vae2llm|llm2vae",
)
