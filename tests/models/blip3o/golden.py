"""The golden BLIP3o as an official folder."""

import shutil
from pathlib import Path
from typing import Any

from asg_jax.models.blip3o.checkpoint import DECODER_FILE, EVA_FILE, MAIN_FILE
from asg_jax.models.blip3o.config import (
    DECODER,
    Blip3oConfig,
    Blip3oTokens,
    DecodingConfig,
    write_config,
)
from asg_jax.models.blip3o.dit import DiTConfig
from asg_jax.models.blip3o.eva import EVAConfig
from asg_jax.models.blip3o.unet import UNetConfig
from asg_jax.models.blip3o.vision import WindowVisionConfig
from asg_jax.models.layers.language import LanguageConfig
from asg_jax.models.layers.qwen.config import LANGUAGE_FIELDS, Pixels
from asg_jax.models.layers.vae import VAEConfig
from tests import goldens

WEIGHTS = {
    MAIN_FILE: "model",
    EVA_FILE: "eva_clip",
    f"{DECODER}/unet/{DECODER_FILE}": "decoder_unet",
    f"{DECODER}/vae/{DECODER_FILE}": "decoder_vae",
}


def facts() -> dict[str, Any]:
    return goldens.facts("blip3o/config.json")


def _language() -> LanguageConfig:
    llm = facts()["language_model"]
    return LanguageConfig(
        **{ours: llm[name] for name, ours in LANGUAGE_FIELDS.items()},
        head_width=llm["hidden_size"] // llm["num_attention_heads"],
        sections=tuple(llm["mrope_section"]),
    )


def _vision() -> WindowVisionConfig:
    vision = facts()["vision_config"]
    return WindowVisionConfig(
        width=vision["hidden_size"],
        layers=vision["depth"],
        heads=vision["num_heads"],
        inner=vision["intermediate_size"],
        patch=vision["patch_size"],
        merge=vision["spatial_merge_size"],
        frames=vision["temporal_patch_size"],
        channels=vision["in_channels"],
        window=vision["window_size"],
        full=tuple(vision["fullatt_block_indexes"]),
    )


def _dit() -> DiTConfig:
    dit = facts()["generation"]["dit"]
    return DiTConfig(
        width=dit["dim"],
        layers=dit["n_layers"],
        heads=dit["n_heads"],
        kv_heads=dit["n_kv_heads"],
        inner=facts()["generation"]["dit_ffn_inner"],
        side=dit["input_size"],
        channels=dit["in_channels"],
        eps=dit["norm_eps"],
    )


def _eva() -> EVAConfig:
    eva = facts()["eva_clip"]
    return EVAConfig(
        width=eva["width"],
        layers=eva["layers"],
        heads=eva["width"] // eva["head_width"],
        inner=eva["mlp_hidden"],
        side=eva["image_size"],
        patch=eva["patch_size"],
        pool=int(facts()["generation"]["gen_pooling"].rsplit("_", 1)[1]),
    )


def _unet() -> UNetConfig:
    unet = facts()["decoder"]["unet"]
    kinds, depths = unet["down_block_types"], unet["transformer_layers_per_block"]
    return UNetConfig(
        channels=tuple(unet["block_out_channels"]),
        heads=tuple(unet["attention_head_dim"]),
        depths=tuple(n if "CrossAttn" in k else 0 for n, k in zip(depths, kinds, strict=True)),
        blocks=unet["layers_per_block"],
        groups=unet["norm_num_groups"],
        latents=unet["in_channels"],
        context=unet["cross_attention_dim"],
        size_features=unet["addition_time_embed_dim"],
    )


def _vae() -> VAEConfig:
    vae = facts()["decoder"]["vae"]
    widths = vae["block_out_channels"]
    return VAEConfig(
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=vae["layers_per_block"],
        latent_channels=vae["latent_channels"],
        picture_channels=vae["in_channels"],
        scale=vae["scaling_factor"],
        shift=0.0,
        groups=vae["norm_num_groups"],
        maps=True,
    )


def golden_config() -> Blip3oConfig:
    """The sizes of the golden model; the request is that of its templated prompt."""
    ids, limits, decoder = (facts()[n] for n in ("special_token_ids", "image_processor", "decoder"))
    templated, caption = (facts()["texts"][name] for name in ("templated", "caption"))
    return Blip3oConfig(
        language=_language(),
        vision=_vision(),
        queries=facts()["generation"]["n_query"],
        dit=_dit(),
        eva=_eva(),
        unet=_unet(),
        vae=_vae(),
        decoding=DecodingConfig(
            size=(decoder["height"], decoder["width"]),
            steps=8,
            betas=(decoder["scheduler"]["beta_start"], decoder["scheduler"]["beta_end"]),
        ),
        tokens=Blip3oTokens(
            pad=ids["pad"],
            turn_start=ids["im_start"],
            turn_end=ids["im_end"],
            vision_start=ids["vision_start"],
            vision_end=ids["vision_end"],
            picture=ids["image_pad"],
            video=ids["video_pad"],
            draw_start=ids["img_start"],
            draw_end=ids["img_end"],
            query=ids["gen_image"],
        ),
        pixels=Pixels(limits["min_pixels"], limits["max_pixels"]),
        request=templated.split("user\n")[1].split(caption)[0],
    )


def make_folder(path: Path) -> Path:
    """Writes the golden model into a folder; returns it."""
    write_config(golden_config(), path)
    for name, golden in WEIGHTS.items():
        shutil.copy2(goldens.folder(f"blip3o/{golden}.safetensors"), path / name)
    return path
