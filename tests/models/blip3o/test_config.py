"""The json files of a BLIP3o folder: there and back, and what is wrong with them."""

import json

import pytest

from asg_jax.errors import UserError
from asg_jax.models.blip3o.config import (
    JSON_FILES,
    MAIN,
    OWN,
    Blip3oConfig,
    Blip3oTokens,
    DecodingConfig,
    describes,
    read_config,
    write_config,
)
from asg_jax.models.blip3o.dit import DiTConfig
from asg_jax.models.blip3o.eva import EVAConfig
from asg_jax.models.blip3o.unet import UNetConfig
from asg_jax.models.blip3o.vision import WindowVisionConfig
from asg_jax.models.layers.language import LanguageConfig
from asg_jax.models.layers.qwen.config import Pixels
from asg_jax.models.layers.vae import VAEConfig
from asg_jax.models.registry import FAMILIES, family

# Every field that the files hold differs from the official value.
OTHER = Blip3oConfig(
    language=LanguageConfig(
        vocabulary=272,
        width=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=24,  # not width / heads
        inner=112,
        theta=1e4,
        eps=1e-5,
        sections=(2, 4, 6),
    ),
    vision=WindowVisionConfig(
        width=48, layers=3, heads=4, inner=96, patch=8, merge=4, frames=1, window=64, full=(0, 2)
    ),
    queries=9,
    dit=DiTConfig(width=32, layers=2, heads=4, kv_heads=2, inner=40, side=3, channels=24, eps=1e-4),
    eva=EVAConfig(width=24, layers=2, heads=3, inner=30, side=42, patch=7, pool=2),
    unet=UNetConfig(
        channels=(8, 16),
        heads=(1, 2),
        depths=(1, 3),
        blocks=1,
        groups=4,
        latents=6,
        context=24,
        size_features=10,
    ),
    vae=VAEConfig(
        channels=8,
        multipliers=(1, 3),
        blocks=1,
        latent_channels=6,
        scale=0.5,
        shift=0.0,
        groups=4,
        maps=True,
    ),
    decoding=DecodingConfig((12, 16), (20, 24), 7, 2.0, 5, 4.0, (0.001, 0.02)),
    tokens=Blip3oTokens(*range(256, 266)),
    pixels=Pixels(100, 200),
    system="",
    request="Draw: ",
)


@pytest.mark.parametrize("config", [Blip3oConfig(), OTHER], ids=["full", "other"])
def test_written_files_are_read_back(tmp_path, config):
    write_config(config, tmp_path)
    assert read_config(tmp_path) == config
    assert describes(tmp_path)
    assert [name for name in FAMILIES if family(name).describes(tmp_path)] == ["blip3o"]


def test_official_folders_lack_most_files(tmp_path):
    """What they would say is then fixed, as in the official code."""
    write_config(OTHER, tmp_path)
    for name in JSON_FILES[1:]:
        (tmp_path / name).unlink()
    found = read_config(tmp_path)
    assert (found.language, found.vision, found.queries) == (OTHER.language, OTHER.vision, 9)
    default = Blip3oConfig()
    for part in ("dit", "eva", "unet", "vae", "decoding", "pixels", "system", "request"):
        assert getattr(found, part) == getattr(default, part)


def test_computing_otherwise_is_the_same_network(tmp_path):
    """Dtype and remat policy reach every part that has them; they are no part of the files."""
    changed = OTHER.compute("bfloat16", "full")
    for part in (changed.language, changed.vision, changed.dit, changed.eva):
        assert (part.dtype, part.remat) == ("bfloat16", "full")
    assert changed.unet.dtype == "bfloat16" and changed.compute() == OTHER
    write_config(changed, tmp_path)
    assert read_config(tmp_path) == OTHER


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"special_tokens": {}}'])
def test_other_folders_are_no_blip3o(tmp_path, content):
    assert not describes(tmp_path)
    (tmp_path / MAIN).write_text(content)
    assert not describes(tmp_path)


def edit(path, **changes):
    """Changes fields of a json file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("file", JSON_FILES)
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, file, content):
    write_config(OTHER, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match="not readable as json") as error:
        read_config(tmp_path)
    assert str(tmp_path / file) in str(error.value)


@pytest.mark.parametrize("field", ["rope_theta", "vision_config", "rope_scaling"])
def test_a_missing_field_is_named(tmp_path, field):
    write_config(OTHER, tmp_path)
    edit(tmp_path / MAIN, **{field: None})
    with pytest.raises(UserError, match=f"lack the field '{field}'") as error:
        read_config(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_size_that_the_unet_cannot_halve_is_refused(tmp_path):
    write_config(OTHER, tmp_path)
    edit(tmp_path / OWN, size=[12, 18])
    with pytest.raises(UserError, match="18 x 12 pixels; both sides must be multiples of 4"):
        read_config(tmp_path)


def test_an_unknown_field_of_a_part_is_named(tmp_path):
    write_config(OTHER, tmp_path)
    edit(tmp_path / OWN, dit={"widht": 3})
    with pytest.raises(UserError, match="widht"):
        read_config(tmp_path)
