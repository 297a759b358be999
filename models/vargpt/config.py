"""Sizes of VARGPT-v1.1, read from the json files of a checkpoint folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asg_jax.errors import UserError
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
from asg_jax.models.layers.qwen.config import (
    PIXEL_FIELDS,
    SYSTEM,
    ChatTokens,
    Pixels,
    read_language,
    written_language,
)
from asg_jax.models.layers.qwen.vision import VisionConfig
from asg_jax.models.vargpt.decoder import DecoderConfig
from asg_jax.models.vargpt.scales import TEMPLATES, Grid, Schedule, Template, schedule
from asg_jax.models.vargpt.vae import VAEConfig

MAIN, OWN, PICTURES = "config.json", "vargpt_config.json", "preprocessor_config.json"
FILES = "a VARGPT-v1.1 folder holds config.json and safetensors files"


@dataclass(frozen=True)
class SpecialTokens(ChatTokens):
    """Ids of the markers."""

    draw_start: int = 151657
    draw_end: int = 151658
    draw_pad: int = 151659  # stands for one token of a drawn picture

    def specials(self) -> dict[str, int]:
        return super().specials() | {
            "<|image_gen_start|>": self.draw_start,
            "<|image_gen_end|>": self.draw_end,
            "<|image_gen_pad|>": self.draw_pad,
        }


@dataclass(frozen=True)
class VargptConfig:
    """Everything that fixes the network; defaults are those of VARGPT-v1.1."""

    language: LanguageConfig = replace(QWEN2_7B, sections=(16, 24, 24))
    vision: VisionConfig = VisionConfig()
    decoder: DecoderConfig = DecoderConfig()
    vae: VAEConfig = VAEConfig()
    tokens: SpecialTokens = SpecialTokens()
    pixels: Pixels = Pixels()
    templates: tuple[Template, ...] = TEMPLATES
    scales: int = 10  # of a template that a picture uses
    system: str = SYSTEM  # begins every conversation, if not empty

    def schedule(self, grid: Grid) -> Schedule:
        """The scales of a picture of that grid; see `scales.schedule` for errors."""
        return schedule(self.templates, self.scales, grid)

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The grids of pictures, in image tokens: one for each template."""
        return tuple(template[self.scales - 1] for template in self.templates)

    @property
    def square(self) -> Grid:
        """The grid of the first template."""
        return self.grids[0]

    def compute(self, dtype: str = "float32", remat: str = "none") -> VargptConfig:
        """The same network with another dtype of activations and another remat policy."""
        return replace(
            self,
            language=replace(self.language, dtype=dtype, remat=remat),
            vision=replace(self.vision, dtype=dtype, remat=remat),
            decoder=replace(self.decoder, dtype=dtype, remat=remat),
        )


def describes(folder: Path) -> bool:
    """Whether the folder's `config.json` has the three markers that only VARGPT has."""
    try:
        content = json.loads((folder / MAIN).read_text())
    except (OSError, ValueError):
        return False
    special = content.get("special_tokens") if isinstance(content, dict) else None
    return isinstance(special, dict) and "image_gen_start_token_id" in special


def read_config(folder: Path) -> VargptConfig:
    """Reads `config.json` and, where present, `preprocessor_config.json` and `vargpt_config.json`.

    The last holds what the official code fixes for its only model; absent keys keep those values.

    Raises:
      UserError: a file is missing or unreadable, lacks a field, or describes another model.
    """
    optional = {
        name: read_object(folder / name, FILES) if (folder / name).exists() else {}
        for name in (PICTURES, OWN)
    }
    main = read_object(folder / MAIN, FILES)
    turning = rotary(folder / MAIN, main, ("mrope", "default"))
    main = main | {name: turning[name] for name in turning if name == "rope_theta"}
    if "mrope_section" in turning:
        main["rope_scaling"] = turning
    check_decoder(folder / MAIN, main)
    contents = {MAIN: main} | optional
    for name, like in _to_json(VargptConfig()).items():
        check_kinds(folder / name, contents[name], like)
    with interpreting(folder, "VARGPT-v1.1"):
        check_computed(folder / MAIN, main["vision_config"], {"hidden_act": ("quick_gelu",)})
        config = _from_json(main, optional[PICTURES], optional[OWN])
        _check_sizes(folder, config)
        return config


def _check_sizes(folder: Path, config: VargptConfig) -> None:
    language, vision, decoder = config.language, config.vision, config.decoder
    found = {
        "num_attention_heads must be a multiple of num_key_value_heads": language.heads
        % language.kv_heads,
        "mrope_section must add up to half of head_dim": 2 * sum(language.sections)
        - language.head_width,
        "embed_dim must be a multiple of num_heads": vision.width % vision.heads,
        "width of the decoder must be a multiple of its heads": decoder.width % decoder.heads,
        "layers of the decoder must be a multiple of chunk": decoder.layers % decoder.chunk,
        "channels of vae must be a multiple of groups": config.vae.channels % config.vae.groups,
        "templates must be lists of pairs, at least as many as scales": any(
            len(template) < config.scales for template in config.templates
        ),
        "min_pixels must be at most max_pixels": config.pixels.least > config.pixels.most,
    }
    for rule, wrong in found.items():
        if wrong:
            raise UserError(f"{folder}: {rule}; restore the json files of the checkpoint.")


def write_config(config: VargptConfig, folder: Path) -> None:
    """Writes the three json files that `read_config` reads back to an equal configuration."""
    write_objects(folder, _to_json(config))


# official field -> ours
VISION_FIELDS = {
    "embed_dim": "width",
    "depth": "layers",
    "num_heads": "heads",
    "patch_size": "patch",
    "spatial_merge_size": "merge",
    "temporal_patch_size": "frames",
}
TOKEN_FIELDS = {
    "bos_token_id": "pad",  # one token for the start of a text and for padding
    "im_start_token_id": "turn_start",
    "eos_token_id": "turn_end",
    "vision_start_token_id": "vision_start",
    "vision_end_token_id": "vision_end",
    "image_token_id": "picture",
}
DRAW_FIELDS = {
    "image_gen_start_token_id": "draw_start",
    "image_gen_end_token_id": "draw_end",
    "image_gen_pad_token_id": "draw_pad",
}
OWN_FIELDS = {"scales": "scales", "system_prompt": "system"}
DECODER_FIELDS = {
    name: name for name in ("width", "layers", "heads", "inner", "text_rows", "levels", "chunk")
}
VAE_FIELDS = {name: name for name in ("channels", "multipliers", "blocks", "bits", "groups")}


def _from_json(main: dict[str, Any], pictures: dict[str, Any], own: dict[str, Any]) -> VargptConfig:
    default, vision = VargptConfig(), main["vision_config"]
    tower = {ours: vision[name] for name, ours in VISION_FIELDS.items()}
    tokens = renamed(default.tokens, main, TOKEN_FIELDS)
    templates = own.get("templates")
    if templates is not None:
        templates = tuple(tuple((h, w) for h, w in template) for template in templates)
    return renamed(
        replace(
            default,
            language=read_language(main),
            vision=VisionConfig(**tower, inner=int(tower["width"] * vision["mlp_ratio"])),
            decoder=renamed(default.decoder, own.get("decoder", {}), DECODER_FIELDS),
            vae=renamed(default.vae, own.get("vae", {}), VAE_FIELDS),
            tokens=renamed(tokens, main["special_tokens"], DRAW_FIELDS),
            pixels=renamed(default.pixels, pictures, PIXEL_FIELDS),
            templates=templates or default.templates,
        ),
        own,
        OWN_FIELDS,
    )


def _to_json(config: VargptConfig) -> dict[str, dict[str, Any]]:
    vision, tokens = config.vision, config.tokens
    main = {
        "model_type": "vargpt_qwen2_vl",
        **written_language(config.language),
        "vision_config": {
            **official(vision, VISION_FIELDS),
            "hidden_size": config.language.width,
            "mlp_ratio": vision.inner / vision.width,
            "in_chans": vision.channels,
        },
        **official(tokens, TOKEN_FIELDS),
        "special_tokens": official(tokens, DRAW_FIELDS),
    }
    own = {
        **official(config, OWN_FIELDS),
        "decoder": official(config.decoder, DECODER_FIELDS),
        "vae": official(config.vae, VAE_FIELDS),
        "templates": config.templates,
    }
    return {MAIN: main, PICTURES: official(config.pixels, PIXEL_FIELDS), OWN: own}
