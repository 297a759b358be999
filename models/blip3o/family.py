"""What BLIP3o offers the programs.

EVA-CLIP, which turns pictures into targets, is loaded by `open_model(..., targets=True)` alone,
from `eva_clip.safetensors` beside `config.json`. It is published as a pickle, `pytorch_model.bin`,
which is never read; convert it once:

    python -c "import torch, safetensors.torch as s; \
s.save_file(torch.load('pytorch_model.bin', weights_only=True), 'eva_clip.safetensors')"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jax import Array
from jax.sharding import Mesh

from asg_jax.backbone import Params, PyTree
from asg_jax.models.blip3o import checkpoint
from asg_jax.models.blip3o.adapters import ROLES
from asg_jax.models.blip3o.backbone import Blip3oBackbone
from asg_jax.models.blip3o.config import (
    JSON_FILES,
    Blip3oConfig,
    Blip3oTokens,
    DecodingConfig,
    describes,
    write_config,
)
from asg_jax.models.blip3o.dit import DiTConfig
from asg_jax.models.blip3o.eva import EVAConfig
from asg_jax.models.blip3o.lessons import denoising_loss, features_loss, readout
from asg_jax.models.blip3o.processor import Blip3oProcessor
from asg_jax.models.blip3o.sharding import RULES
from asg_jax.models.blip3o.unet import UNetConfig
from asg_jax.models.blip3o.vision import WindowVisionConfig
from asg_jax.models.layers.qwen.config import Pixels
from asg_jax.models.layers.vae import VAEConfig
from asg_jax.models.registry import AUTOENCODER, Family, Pictures, Stage
from asg_jax.models.tokenizers import ByteTokenizer, write_word_tokenizer

_FULL = Blip3oConfig()
HEADERS = ("user", "assistant")  # words of the chat format
# For rendered scenes of 32 x 32 pixels: 4 vision tokens, 16 drawn features, latents of 16 x 16.
_TINY = Blip3oConfig(
    language=replace(
        _FULL.language,
        vocabulary=96,
        width=128,
        layers=4,
        heads=4,
        kv_heads=4,
        head_width=32,
        inner=320,
        theta=1e4,
        sections=(4, 6, 6),
    ),
    vision=WindowVisionConfig(
        width=96, layers=2, heads=4, inner=192, patch=8, frames=1, window=16, full=(1,)
    ),
    queries=16,
    dit=DiTConfig(width=128, layers=4, heads=4, kv_heads=4, inner=256, side=4, channels=32),
    eva=EVAConfig(width=32, layers=4, heads=2, inner=128, side=32, patch=4, pool=2),
    unet=UNetConfig(
        channels=(32, 64),
        heads=(2, 4),
        depths=(0, 1),
        blocks=1,
        groups=8,
        latents=4,
        context=32,
        size_features=8,
    ),
    vae=VAEConfig(
        channels=16,
        multipliers=(1, 2),
        blocks=1,
        latent_channels=4,
        scale=1.0,
        shift=0.0,
        groups=4,
        maps=True,
    ),
    decoding=DecodingConfig(size=(32, 32), told=(32, 32), steps=8, guidance=1.0),
    tokens=Blip3oTokens(*range(80, 90)),
    pixels=Pixels(32 * 32, 32 * 32),
    system="",
    request="",
)
SMALL = {"blip3o-tiny": _TINY}
# With random weights texts are bytes.
_BYTES = replace(
    _TINY,
    language=replace(_TINY.language, vocabulary=272),
    tokens=Blip3oTokens(*range(256, 266)),
)


def _open(folder: Path, dtype: str) -> tuple[Blip3oBackbone, Blip3oProcessor]:
    backbone = checkpoint.open_config(folder, dtype)
    return backbone, Blip3oProcessor.load(folder, backbone.config)


def _with_targets(
    folder: Path, backbone: Blip3oBackbone, dtype: str, mesh: Mesh | None
) -> tuple[Blip3oBackbone, PyTree]:
    backbone = backbone.with_targets(True)
    tower = {"eva": backbone.abstract_base(dtype)["eva"]}
    return backbone, checkpoint.load_parts(folder, backbone, tower, mesh)


def _random(config: Blip3oConfig, dtype: str) -> tuple[Blip3oBackbone, Blip3oProcessor]:
    config = config.compute(dtype)
    tokenizer = ByteTokenizer(config.tokens.specials())
    return Blip3oBackbone(config), Blip3oProcessor(config, tokenizer)


def _create(size: str, folder: Path, words: Sequence[str]) -> None:
    config = SMALL[size]
    write_config(config, folder)
    write_word_tokenizer(folder, [*words, *HEADERS], config.tokens.specials())


def _encoder_loss(
    backbone: Blip3oBackbone,
    base: PyTree,
    pictures: Pictures,
    key: Array,
    noise: float,
    reader: PyTree,
) -> Array:
    model = backbone.model(Params(base))
    return features_loss(model, pictures.pixels, pictures.facts, key, noise, reader)


def _readout(backbone: Blip3oBackbone, facts: int, key: Array) -> PyTree:
    return readout(backbone.config, facts, key)


def _decoder_loss(
    backbone: Blip3oBackbone, base: PyTree, pictures: Pictures, key: Array, noise: float, _: PyTree
) -> Array:
    return denoising_loss(backbone.model(Params(base)), pictures.pixels, key, noise)


STAGES = (
    AUTOENCODER,
    Stage("encoder", "eva", _encoder_loss, helper=_readout),
    Stage("decoder", "unet", _decoder_loss),
)


FAMILY = Family(
    describes=describes,
    open=_open,
    stored_dtype=checkpoint.stored_dtype,
    load=lambda folder, dtype, mesh: checkpoint.load(folder, dtype, mesh)[1],
    export=checkpoint.export,
    files=(*JSON_FILES, checkpoint.EVA_FILE),
    official_module=lambda backbone, path: checkpoint.official_module(backbone.config, path),
    rules=RULES,
    roles=ROLES,
    sizes={"blip3o-8b": _FULL, "blip3o-4m": _BYTES},
    random=_random,
    official={"BLIP3o-Model-8B": "blip3o-8b"},
    small=tuple(SMALL),
    create=_create,
    stages=STAGES,
    draws=r"^dit\.|^queries",
    with_targets=_with_targets,
    complete=lambda backbone: backbone.with_targets(True),
)
