"""The golden VARGPT-v1.1, loaded once, and its protocol functions, compiled once."""

import shutil
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Image, Params, Prompt, host
from asg_jax.models.layers.language import LanguageConfig
from asg_jax.models.pictures import bucket
from asg_jax.models.vargpt import checkpoint
from asg_jax.models.vargpt.backbone import VargptBackbone
from asg_jax.models.vargpt.config import Pixels, SpecialTokens, VargptConfig, write_config
from asg_jax.models.vargpt.decoder import DecoderConfig
from asg_jax.models.vargpt.model import Vargpt
from asg_jax.models.vargpt.scales import Schedule
from asg_jax.models.vargpt.vae import VAEConfig
from asg_jax.models.vargpt.vision import VisionConfig
from tests import goldens
from tests.models.loaded import LoadedModel


@dataclass
class Loaded(LoadedModel):
    """VARGPT, and how the golden files put prompts and pictures."""

    backbone: VargptBackbone

    def network(self) -> Vargpt:
        """The NNX network, for what the protocol does not show."""
        return self.backbone.model(self.params)

    def schedule(self, tag: str) -> Schedule:
        """The scales of the square (sq) or the other (ns) picture of the golden files."""
        return self.backbone.config.schedule(grid(tag))

    def prompt(self, ids: np.ndarray) -> Prompt:
        """Rows of plain text with equal indexes on all axes."""
        batch, length = ids.shape
        steps = np.arange(length, dtype=np.int32)
        every = np.broadcast_to(steps, ids.shape)
        prompt = Prompt(
            ids=host(ids.astype(np.int32)),
            slot=host(np.full(ids.shape, -1, np.int32)),
            positions=host(np.broadcast_to(steps[:, None], (batch, length, 3))),
            order=host(every),
            mask=host(np.ones(ids.shape, bool)),
        )
        return jax.tree.map(jnp.asarray, prompt)


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


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The golden model as an official folder."""
    path = tmp_path_factory.mktemp("vargpt")
    write_config(golden_config(), path)
    shutil.copy2(goldens.folder("vargpt/weights.safetensors"), path / "model.safetensors")
    return path


@pytest.fixture(scope="session")
def vargpt(folder) -> Loaded:
    """The golden tiny VARGPT-v1.1 in float32."""
    backbone, base = checkpoint.load(folder, "float32")
    return Loaded(backbone, Params(base))


def image_of(patches: list[np.ndarray], grids: list[np.ndarray]) -> Image:
    """An `Image` of flattened patches, padded to a bucket as the processor does."""
    count = bucket(max(map(len, patches)))
    padded = np.stack([np.pad(rows, ((0, count - len(rows)), (0, 0))) for rows in patches])
    sizes = np.stack(grids).astype(np.int32)
    mask = np.arange(count) < sizes.prod(1)[:, None]
    return jax.tree.map(jnp.asarray, Image(host(padded), host(sizes), host(mask)))
