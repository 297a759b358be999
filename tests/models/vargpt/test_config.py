"""The json files of a VARGPT-v1.1 folder: there and back, and what is wrong with them."""

import json

import pytest

from asg_jax.errors import UserError
from asg_jax.models.layers.language import LanguageConfig
from asg_jax.models.layers.qwen.config import Pixels
from asg_jax.models.layers.qwen.vision import VisionConfig
from asg_jax.models.vargpt.config import (
    SpecialTokens,
    VargptConfig,
    describes,
    read_config,
    write_config,
)
from asg_jax.models.vargpt.decoder import DecoderConfig
from asg_jax.models.vargpt.vae import VAEConfig

# Every field that the files hold differs from the official value.
OTHER = VargptConfig(
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
    vision=VisionConfig(width=48, layers=3, heads=4, inner=96, patch=8, merge=4, frames=1),
    decoder=DecoderConfig(width=32, layers=6, heads=2, inner=64, text_rows=9, levels=5, chunk=3),
    vae=VAEConfig(channels=32, multipliers=(1, 2), blocks=1, bits=8, groups=4),
    tokens=SpecialTokens(*range(256, 265)),
    pixels=Pixels(100, 200),
    templates=(((1, 1), (2, 3), (4, 6)), ((1, 1), (3, 2), (6, 4))),
    scales=2,
    system="",
)


@pytest.mark.parametrize("config", [VargptConfig(), OTHER], ids=["full", "other"])
def test_written_files_are_read_back(tmp_path, config):
    write_config(config, tmp_path)
    assert read_config(tmp_path) == config
    assert describes(tmp_path)


def test_official_folders_lack_the_third_file(tmp_path):
    """What it would say is then fixed, as in the official code."""
    write_config(OTHER, tmp_path)
    (tmp_path / "vargpt_config.json").unlink()
    (tmp_path / "preprocessor_config.json").unlink()
    expected = VargptConfig(OTHER.language, OTHER.vision, tokens=OTHER.tokens)
    assert read_config(tmp_path) == expected


def test_the_head_width_follows_from_the_width(tmp_path):
    """The official file does not state it."""
    write_config(VargptConfig(), tmp_path)
    edit(tmp_path / "config.json", head_dim=None)
    assert read_config(tmp_path).language.head_width == 3584 // 28


def test_computing_otherwise_is_the_same_network(tmp_path):
    """Dtype and remat policy reach all three networks; they are no part of the files."""
    changed = OTHER.compute("bfloat16", "full")
    for part in (changed.language, changed.vision, changed.decoder):
        assert (part.dtype, part.remat) == ("bfloat16", "full")
    assert changed.compute() == OTHER
    write_config(changed, tmp_path)
    assert read_config(tmp_path) == OTHER


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"special_tokens": {"other": 1}}'])
def test_other_folders_are_no_vargpt(tmp_path, content):
    assert not describes(tmp_path)
    (tmp_path / "config.json").write_text(content)
    assert not describes(tmp_path)


def edit(path, **changes):
    """Changes fields of a json file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="is missing") as error:
        read_config(tmp_path)
    assert str(tmp_path / "config.json") in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "vargpt_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, file, content):
    write_config(OTHER, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match="not readable as json") as error:
        read_config(tmp_path)
    assert str(tmp_path / file) in str(error.value)


@pytest.mark.parametrize("field", ["rope_theta", "vision_config", "rope_scaling"])
def test_a_missing_field_is_named(tmp_path, field):
    write_config(OTHER, tmp_path)
    edit(tmp_path / "config.json", **{field: None})
    with pytest.raises(UserError, match=f"lack the field '{field}'") as error:
        read_config(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_field_of_another_kind_is_named(tmp_path):
    write_config(OTHER, tmp_path)
    edit(tmp_path / "config.json", vision_config="large")
    with pytest.raises(UserError, match='vision_config is "large"; it must be an object'):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": {"type": "yarn", "mrope_section": [16, 24, 24]}},
        {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24], "factor": 2.0}},
        {"rope_scaling": {"type": "mrope", "mrope_section": [1, 2, 3]}},
        {"hidden_act": "relu"},
        {"use_sliding_window": True},
        {"attention_bias": False},
        {"layer_types": ["sliding_attention"]},
        {"num_hidden_layers": 0},
        {"hidden_size": "3584"},
        {"special_tokens": {"image_gen_start_token_id": "1"}},
        {"vision_config": {"hidden_act": "gelu"}},
    ],
)
def test_what_is_not_computed_or_makes_no_sense_is_refused(tmp_path, change):
    write_config(VargptConfig(), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    for name, value in change.items():
        old = content.get(name)
        content[name] = old | value if isinstance(old, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{str(tmp_path)}.*"):
        read_config(tmp_path)


def test_the_newer_place_of_the_rotary_parameters_is_read(tmp_path):
    write_config(VargptConfig(), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    scaling = content.pop("rope_scaling")
    new = {"rope_theta": content.pop("rope_theta"), "rope_type": "default"}
    content["rope_parameters"] = new | {"mrope_section": scaling["mrope_section"]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert read_config(tmp_path) == VargptConfig()
