"""The golden VARGPT-v1.1 as an official folder."""

import shutil
from pathlib import Path
from typing import Any

from asg_jax.models.layers.language import LanguageConfig
from asg_jax.models.layers.qwen.config import Pixels
from asg_jax.models.layers.qwen.vision import VisionConfig
from asg_jax.models.vargpt.config import SpecialTokens, VargptConfig, write_config
from asg_jax.models.vargpt.decoder import DecoderConfig
from asg_jax.models.vargpt.vae import VAEConfig
from tests import goldens


def facts() -> dict[str, Any]:
    return goldens.facts("vargpt/config.json")


def grid(tag: str) -> tuple[int, int]:
    ratio = str(facts()["ratio_square" if tag == "sq" else "ratio_nonsquare"])
    _, height, width = facts()["scale_tables"][ratio][facts()["pn"]][-1]
    return height, width


def golden_config() -> VargptConfig:
    """The sizes of the golden model."""
    llm, vision, ids = (facts()[name] for name in ("llm", "vision", "token_ids"))
    decoder, vae, tables = (facts()[n] for n in ("visual_decoder", "vae", "scale_tables"))
    limits = goldens.arrays("vargpt/01_preprocess.safetensors")
    return VargptConfig(
        language=LanguageConfig(
            vocabulary=llm["vocab_size"],
            width=llm["hidden_size"],
            layers=llm["num_hidden_layers"],
            heads=llm["num_attention_heads"],
            kv_heads=llm["num_key_value_heads"],
            head_width=llm["hidden_size"] // llm["num_attention_heads"],
            inner=llm["intermediate_size"],
            theta=llm["rope_theta"],
            eps=llm["rms_norm_eps"],
            sections=tuple(llm["mrope_section"]),
        ),
        vision=VisionConfig(
            width=vision["embed_dim"],
            layers=vision["depth"],
            heads=vision["num_heads"],
            inner=vision["embed_dim"] * vision["mlp_ratio"],
            patch=vision["patch_size"],
            merge=vision["spatial_merge_size"],
            frames=vision["temporal_patch_size"],
        ),
        decoder=DecoderConfig(
            width=decoder["embed_dim"],
            layers=decoder["depth"],
            heads=decoder["num_heads"],
            inner=decoder["mlp_hidden"],
            text_rows=decoder["text_maxlen"],
            levels=decoder["lvl_embed_rows"],
            chunk=decoder["depth"] // decoder["block_chunks"],
        ),
        vae=VAEConfig(
            channels=vae["base_ch"],
            multipliers=tuple(vae["ch_mult"]),
            blocks=vae["num_res_blocks"],
            bits=vae["codebook_dim"],
            groups=vae["group_norm_groups"],
        ),
        tokens=SpecialTokens(
            pad=ids["pad"],
            turn_start=ids["im_start"],
            turn_end=ids["im_end"],
            vision_start=ids["vision_start"],
            vision_end=ids["vision_end"],
            picture=ids["image_pad"],
            draw_start=ids["gen_start"],
            draw_end=ids["gen_end"],
            draw_pad=ids["gen_pad"],
        ),
        pixels=Pixels(int(limits["in.min_pixels"]), int(limits["in.max_pixels"])),
        templates=tuple(
            tuple((height, width) for _, height, width in table["1M"]) for table in tables.values()
        ),
        scales=len(tables["1.0"][facts()["pn"]]),
    )


def make_folder(path: Path) -> Path:
    """Writes the golden model into a folder; returns it."""
    write_config(golden_config(), path)
    shutil.copy2(goldens.folder("vargpt/weights.safetensors"), path / "model.safetensors")
    return path
