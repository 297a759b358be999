"""Sizes of BAGEL, read from the json files of a checkpoint folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asg_jax.errors import UserError
from asg_jax.models.bagel.vision import VisionConfig
from asg_jax.models.config_files import (
    check_computed,
    check_decoder,
    check_kinds,
    interpreting,
    official,
    read_object,
    renamed,
    rotary,
    write_objects,
)
from asg_jax.models.layers.language import QWEN2_7B, LanguageConfig
from asg_jax.models.layers.mlp import ACTIVATIONS
from asg_jax.models.layers.vae import VAEConfig

LANGUAGE, VISION = "llm_config.json", "vit_config.json"
FILES = "a BAGEL folder holds llm_config.json, vit_config.json, ema.safetensors and ae.safetensors"


@dataclass(frozen=True)
class Resize:
    """The resize rule of one encoder: bounds of the sides in pixels, and their stride."""

    max_size: int
    min_size: int
    stride: int
    max_pixels: int = 14 * 14 * 9 * 1024


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the four markers: text turns and image segments are framed by a pair each."""

    bos: int = 151644
    eos: int = 151645
    image_start: int = 151652
    image_end: int = 151653


@dataclass(frozen=True)
class BagelConfig:
    """Everything that fixes the network; defaults are those of BAGEL-7B-MoT."""

    language: LanguageConfig = replace(QWEN2_7B, qk_norm=True, experts=2)
    vision: VisionConfig = VisionConfig()
    vae: VAEConfig = VAEConfig()
    tokens: SpecialTokens = SpecialTokens()
    vision_resize: Resize = Resize(980, 224, 14)
    latent_resize: Resize = Resize(1024, 512, 16)
    latent_patch: int = 2  # latents per image token along a side
    latent_side: int = 64  # positions per side of the latent table
    position_period: float = 1e4  # the longest of both position tables, in rows / 2 pi
    connector_activation: str = "gelu_pytorch_tanh"
    timestep_shift: float = 1.0  # of the training times

    @property
    def token_pixels(self) -> int:
        """Pixels per image token along a side."""
        return self.vae.downsample * self.latent_patch

    @property
    def token_channels(self) -> int:
        """Numbers per image token."""
        return self.latent_patch**2 * self.vae.latent_channels

    def compute(self, dtype: str = "float32", remat: str = "none") -> BagelConfig:
        """The same network with another dtype of activations and another remat policy."""
        return replace(
            self,
            language=replace(self.language, dtype=dtype, remat=remat),
            vision=replace(self.vision, dtype=dtype, remat=remat),
        )


def read_config(folder: Path) -> BagelConfig:
    """Reads `llm_config.json`, `vit_config.json` and, where present, `bagel_config.json`.

    The last holds what the official code fixes for its only model; absent keys keep the 7B values.

    Raises:
      UserError: a file is missing or unreadable, lacks a field, or describes another model.
    """
    optional = folder / "bagel_config.json"
    more = read_object(optional, FILES) if optional.exists() else {}
    llm, vit = (read_object(folder / name, FILES) for name in (LANGUAGE, VISION))
    llm |= rotary(folder / LANGUAGE, llm, ("default",))
    check_decoder(folder / LANGUAGE, llm)
    check_computed(folder / LANGUAGE, llm, {"model_type": ("qwen2",)})
    check_computed(folder / VISION, vit, {"rope": (False,)})
    contents = {LANGUAGE: llm, VISION: vit, optional.name: more}
    for name, like in _to_json(BagelConfig()).items():
        check_kinds(folder / name, contents[name], like)
    with interpreting(folder, "BAGEL"):
        config = _from_json(llm, vit, more)
        _check_sizes(folder, config)
    for name in (config.connector_activation, config.vision.activation):
        if name not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise UserError(f"{folder}: unknown activation '{name}'; known are {known}.")
    return config


def _check_sizes(folder: Path, config: BagelConfig) -> None:
    language, vision = config.language, config.vision
    found = {
        "num_attention_heads must be a multiple of num_key_value_heads": language.heads
        % language.kv_heads,
        "head_dim must be even": language.head_width % 2,
        "hidden_size of the vision tower must be a multiple of its heads": vision.width
        % vision.heads,
        "num_hidden_layers of the vision tower must be above 1": vision.layers < 1,
        "min_image_size must be at most max_image_size": any(
            rule.min_size > rule.max_size for rule in (config.vision_resize, config.latent_resize)
        ),
        "ch must be a multiple of norm_groups": config.vae.channels % config.vae.groups,
    }
    for rule, wrong in found.items():
        if wrong:
            raise UserError(f"{folder}: {rule}; restore the json files of the checkpoint.")


def write_config(config: BagelConfig, folder: Path) -> None:
    """Writes the three json files that `read_config` reads back to an equal configuration."""
    write_objects(folder, _to_json(config))


def _from_json(llm: dict[str, Any], vit: dict[str, Any], more: dict[str, Any]) -> BagelConfig:
    default = BagelConfig()
    language = LanguageConfig(
        vocabulary=llm["vocab_size"],
        width=llm["hidden_size"],
        layers=llm["num_hidden_layers"],
        heads=llm["num_attention_heads"],
        kv_heads=llm["num_key_value_heads"],
        head_width=llm.get("head_dim") or llm["hidden_size"] // llm["num_attention_heads"],
        inner=llm["intermediate_size"],
        theta=llm["rope_theta"],
        eps=llm["rms_norm_eps"],
        qk_norm=True,  # the official code sets it, whatever the file says
        experts=2,
    )
    vision = VisionConfig(
        width=vit["hidden_size"],
        layers=vit["num_hidden_layers"] - 1,  # the last one is dropped, in the official code too
        heads=vit["num_attention_heads"],
        inner=vit["intermediate_size"],
        patch=vit["patch_size"],
        channels=vit.get("num_channels", 3),
        side=more.get("vit_max_num_patch_per_side", vit["image_size"] // vit["patch_size"]),
        eps=vit.get("layer_norm_eps", 1e-6),
        activation=vit.get("hidden_act", "gelu_pytorch_tanh"),
        interpolate=more.get("interpolate_pos", False),
    )
    return BagelConfig(
        language=language,
        vision=vision,
        vae=renamed(VAEConfig(), more.get("vae_config", {}), VAE_FIELDS),
        tokens=renamed(SpecialTokens(), more.get("special_tokens", {}), TOKEN_FIELDS),
        vision_resize=renamed(default.vision_resize, more.get("vit_transform", {}), RESIZE_FIELDS),
        latent_resize=renamed(default.latent_resize, more.get("vae_transform", {}), RESIZE_FIELDS),
        latent_patch=more.get("latent_patch_size", default.latent_patch),
        latent_side=more.get("max_latent_size", default.latent_side),
        position_period=more.get("position_period", default.position_period),
        connector_activation=more.get("connector_act", default.connector_activation),
        timestep_shift=more.get("timestep_shift", default.timestep_shift),
    )


def _to_json(config: BagelConfig) -> dict[str, dict[str, Any]]:
    language, vision = config.language, config.vision
    llm = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "vocab_size": language.vocabulary,
        "hidden_size": language.width,
        "num_hidden_layers": language.layers,
        "num_attention_heads": language.heads,
        "num_key_value_heads": language.kv_heads,
        "head_dim": language.head_width,
        "intermediate_size": language.inner,
        "rope_theta": language.theta,
        "rms_norm_eps": language.eps,
    }
    vit = {
        "model_type": "siglip_vision_model",
        "hidden_size": vision.width,
        "num_hidden_layers": vision.layers + 1,
        "num_attention_heads": vision.heads,
        "intermediate_size": vision.inner,
        "patch_size": vision.patch,
        "num_channels": vision.channels,
        "image_size": vision.side * vision.patch,
        "layer_norm_eps": vision.eps,
        "hidden_act": vision.activation,
    }
    more = {
        "vae_config": official(config.vae, VAE_FIELDS),
        "special_tokens": official(config.tokens, TOKEN_FIELDS),
        "vit_transform": official(config.vision_resize, RESIZE_FIELDS),
        "vae_transform": official(config.latent_resize, RESIZE_FIELDS),
        "vit_max_num_patch_per_side": vision.side,
        "interpolate_pos": vision.interpolate,
        "latent_patch_size": config.latent_patch,
        "max_latent_size": config.latent_side,
        "position_period": config.position_period,
        "connector_act": config.connector_activation,
        "timestep_shift": config.timestep_shift,
    }
    return {"llm_config.json": llm, "vit_config.json": vit, "bagel_config.json": more}


# official field -> ours
VAE_FIELDS = {
    "ch": "channels",
    "ch_mult": "multipliers",
    "num_res_blocks": "blocks",
    "z_channels": "latent_channels",
    "in_channels": "picture_channels",
    "scale_factor": "scale",
    "shift_factor": "shift",
    "norm_groups": "groups",
}
TOKEN_FIELDS = {
    "bos_token_id": "bos",
    "eos_token_id": "eos",
    "start_of_image": "image_start",
    "end_of_image": "image_end",
}
RESIZE_FIELDS = {
    "max_image_size": "max_size",
    "min_image_size": "min_size",
    "image_stride": "stride",
    "max_pixels": "max_pixels",
}
