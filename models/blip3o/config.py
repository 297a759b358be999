"""Sizes of BLIP3o, read from the json files of a checkpoint folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asg_jax.errors import UserError
from asg_jax.models.blip3o.dit import DiTConfig
from asg_jax.models.blip3o.eva import EVAConfig
from asg_jax.models.blip3o.unet import SIZES, UNetConfig
from asg_jax.models.blip3o.vision import WindowVisionConfig
from asg_jax.models.config_files import interpreting, official, read_object, renamed, write_objects
from asg_jax.models.layers.language import QWEN2_7B, LanguageConfig
from asg_jax.models.layers.qwen.config import (
    PIXEL_FIELDS,
    SYSTEM,
    ChatTokens,
    Pixels,
    read_language,
    written_language,
)
from asg_jax.models.layers.vae import VAEConfig

MAIN, OWN, PICTURES = "config.json", "blip3o_config.json", "preprocessor_config.json"
DECODER = "diffusion-decoder"
UNET, VAE = f"{DECODER}/unet/config.json", f"{DECODER}/vae/config.json"
SCHEDULER = f"{DECODER}/scheduler/scheduler_config.json"
FILES = "a BLIP3o folder holds config.json, safetensors files and the folder diffusion-decoder"
SDXL_SCALE = 0.13025


@dataclass(frozen=True)
class DecodingConfig:
    """How features become pixels; defaults are those of the official pipeline.

    Attributes:
      size: (height, width) of the pictures in pixels.
      told: the size that the UNet is told the picture had before it was cut, whatever `size` is.
      steps: network evaluations of the UNet.
      guidance: scale against the features of a blank prompt; at most 1 turns it off.
      blank_steps: network evaluations that draw those features.
      blank_guidance: guidance scale with which they are drawn.
      betas: first and last noise variance of the UNet's 1000 times, between which roots are even.
    """

    size: tuple[int, int] = (1024, 1024)
    told: tuple[int, int] = (1024, 1024)
    steps: int = 50
    guidance: float = 3.0
    blank_steps: int = 30
    blank_guidance: float = 3.0
    betas: tuple[float, float] = (0.00085, 0.012)


@dataclass(frozen=True)
class Blip3oTokens(ChatTokens):
    """Ids of the markers."""

    video: int = 151656
    draw_start: int = 151665
    draw_end: int = 151666
    query: int = 151667  # stands for a query in the batches of pre-training

    def specials(self) -> dict[str, int]:
        return super().specials() | {
            "<|video_pad|>": self.video,
            "[IMG]": self.draw_start,
            "[/IMG]": self.draw_end,
            "<image>": self.query,
        }


@dataclass(frozen=True)
class Blip3oConfig:
    """Everything that fixes the network; defaults are those of BLIP3o-8B.

    Attributes:
      queries: learned rows whose states are the condition of a picture.
      request: what stands before the caption of a picture that is to be drawn.
      targets: whether the network has the part that turns pictures into targets (4.4 billion
        parameters at full size, which only `encode_target` reads).
    """

    language: LanguageConfig = replace(QWEN2_7B, vocabulary=151668, sections=(16, 24, 24))
    vision: WindowVisionConfig = WindowVisionConfig()
    queries: int = 64
    dit: DiTConfig = DiTConfig()
    eva: EVAConfig = EVAConfig()
    unet: UNetConfig = UNetConfig()
    vae: VAEConfig = VAEConfig(latent_channels=4, scale=SDXL_SCALE, shift=0.0, maps=True)
    decoding: DecodingConfig = DecodingConfig()
    tokens: Blip3oTokens = Blip3oTokens()
    pixels: Pixels = Pixels(most=12845056)
    system: str = SYSTEM  # begins every conversation, if not empty
    request: str = "Please generate image based on the following caption: "
    targets: bool = True

    def compute(self, dtype: str = "float32", remat: str = "none") -> Blip3oConfig:
        """The same network with another dtype of activations and another remat policy."""
        change = lambda part: replace(part, dtype=dtype, remat=remat)
        return replace(
            self,
            language=change(self.language),
            vision=change(self.vision),
            dit=change(self.dit),
            eva=change(self.eva),
            unet=replace(self.unet, dtype=dtype),
        )


def describes(folder: Path) -> bool:
    """Whether the folder holds a Qwen2.5-VL with learned queries."""
    try:
        content = json.loads((folder / MAIN).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and ("n_query" in content or "gen_pooling" in content)


def read_config(folder: Path) -> Blip3oConfig:
    """Reads `config.json` and, where present, the other json files that `write_config` writes.

    `blip3o_config.json` holds what the official code fixes for its only model, and the size of the
    pictures; absent files and keys keep the official values.

    Raises:
      UserError: a file is missing or unreadable, lacks a field, or describes another model.
    """
    optional = {
        name: read_object(folder / name, FILES) if (folder / name).exists() else {}
        for name in JSON_FILES[1:]
    }
    with interpreting(folder, "BLIP3o"):
        config = _from_json(read_object(folder / MAIN, FILES), optional)
        height, width = config.decoding.size
    stride = config.vae.downsample * config.unet.stride
    if height % stride or width % stride:
        raise UserError(
            f"{folder / OWN} asks for pictures of {width} x {height} pixels; both sides must be "
            f"multiples of {stride}."
        )
    return config


def write_config(config: Blip3oConfig, folder: Path) -> None:
    """Writes the json files that `read_config` reads back to an equal configuration."""
    contents = _to_json(config)
    for name in contents:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_objects(folder, contents)


JSON_FILES = (MAIN, OWN, PICTURES, UNET, VAE, SCHEDULER)

# official field -> ours
VISION_FIELDS = {
    "hidden_size": "width",
    "depth": "layers",
    "num_heads": "heads",
    "intermediate_size": "inner",
    "patch_size": "patch",
    "spatial_merge_size": "merge",
    "temporal_patch_size": "frames",
    "in_channels": "channels",
    "window_size": "window",
    "fullatt_block_indexes": "full",
}
TOKEN_FIELDS = {
    "pad_token_id": "pad",
    "vision_start_token_id": "vision_start",
    "vision_end_token_id": "vision_end",
    "image_token_id": "picture",
    "video_token_id": "video",
}
OWN_TOKEN_FIELDS = {name: name for name in ("turn_start", "turn_end", "draw_start", "draw_end")}
OWN_TOKEN_FIELDS |= {"query": "query"}
PARTS = ("dit", "eva")  # of the network, which the official files do not describe
OWN_FIELDS = {name: name for name in ("system", "request")}
DECODING_FIELDS = {n: n for n in ("size", "told", "steps", "guidance")}
DECODING_FIELDS |= {n: n for n in ("blank_steps", "blank_guidance")}
UNET_FIELDS = {
    "block_out_channels": "channels",
    "attention_head_dim": "heads",  # which the field holds, in spite of its name
    "layers_per_block": "blocks",
    "norm_num_groups": "groups",
    "in_channels": "latents",
    "cross_attention_dim": "context",
    "addition_time_embed_dim": "size_features",
}
VAE_FIELDS = {
    "latent_channels": "latent_channels",
    "in_channels": "picture_channels",
    "layers_per_block": "blocks",
    "norm_num_groups": "groups",
    "scaling_factor": "scale",
}
NOT_SIZES = ("dtype", "remat")  # how a part computes


def _from_json(main: dict[str, Any], more: dict[str, dict[str, Any]]) -> Blip3oConfig:
    default, own = Blip3oConfig(), more[OWN]
    tokens = renamed(default.tokens, main, TOKEN_FIELDS)
    part = lambda default, content: renamed(default, content, {name: name for name in content})
    config = replace(
        default,
        language=read_language(main),
        vision=renamed(default.vision, main["vision_config"], VISION_FIELDS),
        queries=main.get("n_query", default.queries),
        dit=part(default.dit, own.get("dit", {})),
        eva=part(default.eva, own.get("eva", {})),
        unet=_read_unet(more[UNET]),
        vae=_read_vae(more[VAE]),
        decoding=renamed(
            default.decoding, _betas(more[SCHEDULER]) | own, DECODING_FIELDS | {"betas": "betas"}
        ),
        tokens=renamed(tokens, own.get("tokens", {}), OWN_TOKEN_FIELDS),
        pixels=renamed(default.pixels, more[PICTURES], PIXEL_FIELDS),
    )
    return renamed(config, own, OWN_FIELDS)


def _read_unet(content: dict[str, Any]) -> UNetConfig:
    config = renamed(UNetConfig(), content, UNET_FIELDS)
    if not content:
        return config
    kinds = content["down_block_types"]
    depths = content["transformer_layers_per_block"]
    return replace(
        config,
        depths=tuple(
            n if "CrossAttn" in kind else 0 for n, kind in zip(depths, kinds, strict=True)
        ),
    )


def _read_vae(content: dict[str, Any]) -> VAEConfig:
    config = renamed(Blip3oConfig().vae, content, VAE_FIELDS)
    widths = content.get("block_out_channels")
    if not widths:
        return config
    multipliers = tuple(width // widths[0] for width in widths)
    return replace(config, channels=widths[0], multipliers=multipliers)


def _betas(content: dict[str, Any]) -> dict[str, Any]:
    return {"betas": (content["beta_start"], content["beta_end"])} if content else {}


def _to_json(config: Blip3oConfig) -> dict[str, dict[str, Any]]:
    sizes = lambda part: {k: v for k, v in asdict(part).items() if k not in NOT_SIZES}
    main = {
        "model_type": "qwen2_5_vl",
        **written_language(config.language),
        "n_query": config.queries,
        "gen_pooling": f"early_pool2d_{config.eva.pool}",
        "vision_config": {
            **official(config.vision, VISION_FIELDS),
            "out_hidden_size": config.language.width,
        },
        **official(config.tokens, TOKEN_FIELDS),
    }
    own = {
        **official(config, OWN_FIELDS),
        **official(config.decoding, DECODING_FIELDS),
        "tokens": official(config.tokens, OWN_TOKEN_FIELDS),
        **{name: sizes(getattr(config, name)) for name in PARTS},
    }
    return {
        MAIN: main,
        OWN: own,
        PICTURES: official(config.pixels, PIXEL_FIELDS),
        UNET: _written_unet(config.unet),
        VAE: _written_vae(config.vae),
        SCHEDULER: _written_scheduler(config.decoding),
    }


def _written_unet(unet: UNetConfig) -> dict[str, Any]:
    kind = lambda depth: "CrossAttn" if depth else ""
    return {
        "_class_name": "UNet2DConditionModel",
        **official(unet, UNET_FIELDS),
        "out_channels": unet.latents,
        "transformer_layers_per_block": [max(depth, 1) for depth in unet.depths],
        "down_block_types": [f"{kind(depth)}DownBlock2D" for depth in unet.depths],
        "up_block_types": [f"{kind(depth)}UpBlock2D" for depth in reversed(unet.depths)],
        "mid_block_type": f"UNetMidBlock2D{kind(unet.depths[-1])}",
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "projection_class_embeddings_input_dim": unet.context + SIZES * unet.size_features,
    }


def _written_vae(vae: VAEConfig) -> dict[str, Any]:
    levels = len(vae.multipliers)
    return {
        "_class_name": "AutoencoderKL",
        **official(vae, VAE_FIELDS),
        "out_channels": vae.picture_channels,
        "block_out_channels": [vae.channels * m for m in vae.multipliers],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def _written_scheduler(decoding: DecodingConfig) -> dict[str, Any]:
    first, last = decoding.betas
    return {
        "_class_name": "EulerDiscreteScheduler",
        "beta_start": first,
        "beta_end": last,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "interpolation_type": "linear",
        "num_train_timesteps": 1000,
    }
