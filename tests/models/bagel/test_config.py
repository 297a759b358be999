"""The json files of a BAGEL folder: there and back, and what is wrong with them."""

import json
from dataclasses import replace

import pytest

from asg_jax.errors import UserError
from asg_jax.models.bagel.config import (
    BagelConfig,
    Resize,
    SpecialTokens,
    read_config,
    write_config,
)
from asg_jax.models.bagel.vision import VisionConfig
from asg_jax.models.layers.language import LanguageConfig
from asg_jax.models.layers.vae import VAEConfig

# Every field that the files hold differs from the 7B value.
OTHER = BagelConfig(
    language=LanguageConfig(
        vocabulary=264,
        width=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=24,  # not width / heads
        inner=112,
        theta=1e4,
        eps=1e-5,
        qk_norm=True,
        experts=2,
    ),
    vision=VisionConfig(
        width=48,
        layers=3,
        heads=4,
        inner=100,
        patch=8,
        channels=1,
        side=9,
        eps=1e-5,
        activation="gelu",
        interpolate=True,
    ),
    vae=VAEConfig(32, (1, 2), 1, 8, 1, 0.5, 0.25, groups=4),
    tokens=SpecialTokens(256, 257, 258, 259),
    vision_resize=Resize(112, 28, 8, 10_000),
    latent_resize=Resize(128, 32, 4, 20_000),
    latent_patch=1,
    latent_side=8,
    position_period=2.0,
    connector_activation="silu",
    timestep_shift=2.0,
)


@pytest.mark.parametrize("config", [BagelConfig(), OTHER], ids=["7B", "other"])
def test_written_files_are_read_back(tmp_path, config):
    write_config(config, tmp_path)
    assert read_config(tmp_path) == config


def test_official_folders_lack_the_third_file(tmp_path):
    """What it would say is then fixed, as in the official code."""
    write_config(OTHER, tmp_path)
    (tmp_path / "bagel_config.json").unlink()
    vision = replace(OTHER.vision, interpolate=False)
    assert read_config(tmp_path) == BagelConfig(OTHER.language, vision)


def test_the_head_width_follows_from_the_width(tmp_path):
    """The official file does not state it."""
    write_config(BagelConfig(), tmp_path)
    edit(tmp_path / "llm_config.json", head_dim=None)
    assert read_config(tmp_path).language.head_width == 3584 // 28


def test_computing_otherwise_is_the_same_network(tmp_path):
    """Dtype and remat policy reach both towers; they are no part of the files."""
    changed = OTHER.compute("bfloat16", "full")
    for part in (changed.language, changed.vision):
        assert (part.dtype, part.remat) == ("bfloat16", "full")
    assert changed.compute() == OTHER
    write_config(changed, tmp_path)
    assert read_config(tmp_path) == OTHER


def edit(path, **changes):
    """Changes fields of a json file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("file", ["llm_config.json", "vit_config.json"])
def test_a_missing_file_is_named(tmp_path, file):
    write_config(OTHER, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match="is missing") as error:
        read_config(tmp_path)
    assert str(tmp_path / file) in str(error.value)


@pytest.mark.parametrize("file", ["llm_config.json", "vit_config.json", "bagel_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, file, content):
    write_config(OTHER, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match="not readable as json") as error:
        read_config(tmp_path)
    assert str(tmp_path / file) in str(error.value)


@pytest.mark.parametrize(
    ("file", "field"),
    [("llm_config.json", "rope_theta"), ("vit_config.json", "patch_size")],
)
def test_a_missing_field_is_named(tmp_path, file, field):
    write_config(OTHER, tmp_path)
    edit(tmp_path / file, **{field: None})
    with pytest.raises(UserError, match=f"lack the field '{field}'") as error:
        read_config(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("file", "field"),
    [("vit_config.json", "hidden_act"), ("bagel_config.json", "connector_act")],
)
def test_an_unknown_activation_is_named(tmp_path, file, field):
    write_config(OTHER, tmp_path)
    edit(tmp_path / file, **{field: "swish"})
    with pytest.raises(UserError, match="'swish'; known are .*silu") as error:
        read_config(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_sizes_of_image_tokens_follow_from_the_autoencoder():
    config = replace(BagelConfig(), vae=VAEConfig(multipliers=(1, 2), latent_channels=8))
    assert (BagelConfig().token_pixels, BagelConfig().token_channels) == (16, 64)
    assert (config.token_pixels, config.token_channels) == (4, 32)


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("llm_config.json", "num_attention_heads", "28"),
        ("vit_config.json", "patch_size", [14]),
        ("bagel_config.json", "vae_config", 3),
    ],
)
def test_a_value_of_a_wrong_kind_is_one_line(tmp_path, file, field, value):
    write_config(BagelConfig(), tmp_path)
    edit(tmp_path / "llm_config.json", head_dim=None)
    (tmp_path / "bagel_config.json").write_text("{}")
    edit(tmp_path / file, **{field: value})
    with pytest.raises(UserError) as error:
        read_config(tmp_path)
    assert str(tmp_path) in str(error.value)
