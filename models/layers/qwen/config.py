"""Markers, bounds of pictures, and the names of the fields in the json files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asg_jax.models.layers.language import LanguageConfig

TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
SYSTEM = "You are a helpful assistant."  # what opens every conversation


@dataclass(frozen=True)
class ChatTokens:
    """Ids of the markers of a conversation."""

    pad: int = 151643
    turn_start: int = 151644
    turn_end: int = 151645
    vision_start: int = 151652
    vision_end: int = 151653
    picture: int = 151655  # stands for one row of features of a picture

    def specials(self) -> dict[str, int]:
        """The marker strings and their ids."""
        return {
            "<|endoftext|>": self.pad,
            TURN_START: self.turn_start,
            TURN_END: self.turn_end,
            "<|vision_start|>": self.vision_start,
            "<|vision_end|>": self.vision_end,
            "<|image_pad|>": self.picture,
        }


@dataclass(frozen=True)
class Pixels:
    """Bounds of the area that the vision tower sees, in pixels."""

    least: int = 56 * 56
    most: int = 28 * 28 * 1280


# official field -> ours
LANGUAGE_FIELDS = {
    "vocab_size": "vocabulary",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "intermediate_size": "inner",
    "rope_theta": "theta",
    "rms_norm_eps": "eps",
}
PIXEL_FIELDS = {"min_pixels": "least", "max_pixels": "most"}


def read_language(main: dict[str, Any]) -> LanguageConfig:
    """The decoder that a `config.json` describes."""
    return LanguageConfig(
        **{ours: main[name] for name, ours in LANGUAGE_FIELDS.items()},
        head_width=main.get("head_dim") or main["hidden_size"] // main["num_attention_heads"],
        sections=tuple(main["rope_scaling"]["mrope_section"]),
    )


def written_language(language: LanguageConfig) -> dict[str, Any]:
    """The fields of a `config.json` that `read_language` reads back."""
    return {
        **{name: getattr(language, ours) for name, ours in LANGUAGE_FIELDS.items()},
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "head_dim": language.head_width,
        "rope_scaling": {"type": "mrope", "mrope_section": language.sections},
    }
