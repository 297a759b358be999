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


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        *[
            ("llm_config.json", "hidden_size", bad)
            for bad in ("128", 0, -1, True, 1.5, None, 10**12)
        ],
        *[("llm_config.json", "num_hidden_layers", bad) for bad in (-1, 10**6, [2], {})],
        *[("llm_config.json", "rms_norm_eps", bad) for bad in (0, -1e-6, "1e-6", float("nan"))],
        *[("llm_config.json", "rope_theta", bad) for bad in (float("inf"), 0, "1e6")],
        *[("llm_config.json", "num_key_value_heads", bad) for bad in (3, 0)],
        *[("vit_config.json", "num_hidden_layers", bad) for bad in (0, 1)],
        *[("vit_config.json", "hidden_act", bad) for bad in (1, False)],
        *[("bagel_config.json", "vae_config", bad) for bad in ({"ch_mult": []}, {"ch": "32"})],
        *[("bagel_config.json", "vae_config", bad) for bad in ({"ch_mult": [1, 0]}, [1])],
        *[("bagel_config.json", "special_tokens", bad) for bad in ({"bos_token_id": -1},)],
        *[("bagel_config.json", "interpolate_pos", bad) for bad in ("no", 1)],
    ],
)
def test_a_bad_value_names_its_field(tmp_path, file, field, value):
    write_config(OTHER, tmp_path)
    content = json.loads((tmp_path / file).read_text()) | {field: value}
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        read_config(tmp_path)
    inner = next(iter(value)) if isinstance(value, dict) and value else field
    assert inner in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("llm_config.json", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        ("llm_config.json", {"rope_scaling": {"type": "linear", "factor": 2}}),
        ("llm_config.json", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}),
        ("llm_config.json", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
        ("llm_config.json", {"rope_parameters": {"rope_theta": 5.0}}),  # beside rope_theta 1e4
        ("llm_config.json", {"hidden_act": "relu"}),
        ("llm_config.json", {"use_sliding_window": True}),
        ("llm_config.json", {"attention_bias": False}),
        ("llm_config.json", {"mlp_bias": True}),
        ("llm_config.json", {"tie_word_embeddings": True}),
        ("llm_config.json", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("llm_config.json", {"model_type": "llama"}),
        ("vit_config.json", {"rope": True}),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, file, change):
    write_config(OTHER, tmp_path)
    edit(tmp_path / file, **change)
    with pytest.raises(UserError, match=next(iter(change))):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_theta": None, "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}},
        {"rope_scaling": {"rope_theta": 1e4, "type": "default"}},
        {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28},
        {"layer_types": ["full_attention"] * 2, "attention_dropout": 0.5, "whatever": 1},
    ],
)
def test_what_changes_nothing_is_read(tmp_path, change):
    write_config(OTHER, tmp_path)
    edit(tmp_path / "llm_config.json", **change)
    assert read_config(tmp_path) == OTHER
