"""Official folders of BLIP3o: every tensor has one place, damage is one clear line."""

import json
import re
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from safetensors.numpy import load_file, save_file

from asg_jax.adapters import init, parameter_count
from asg_jax.backbone import Params
from asg_jax.errors import UserError
from asg_jax.models import peft
from asg_jax.models.blip3o import checkpoint
from asg_jax.models.blip3o.adapters import ROLES
from asg_jax.models.blip3o.backbone import Blip3oBackbone
from asg_jax.models.blip3o.config import DECODER, Blip3oConfig
from asg_jax.models.checkpoint import Checkpoint, paths
from asg_jax.models.registry import open_model, save_converted
from tests import goldens

MANIFESTS = {
    "main": "manifest_full",
    "eva": "manifest_eva_clip",
    "unet": "manifest_decoder_unet",
    "vae": "manifest_decoder_vae",
}


@pytest.fixture(scope="module")
def full():
    """Shapes of the full-size parameters; nothing of the 17 billion is allocated."""
    return Blip3oBackbone(Blip3oConfig()).abstract_base()


@pytest.mark.parametrize("part", MANIFESTS)
def test_every_key_of_the_full_size_model_maps_exactly_once(full, part):
    facts = goldens.facts(f"blip3o/{MANIFESTS[part]}.json")
    table = checkpoint.tables(Blip3oConfig(), full)[part]
    expected = {key: value["shape"] for key, value in facts.items()}
    assert {key: list(tensor.shape) for key, tensor in table.items()} == expected


def test_the_full_size_model_has_the_published_number_of_parameters(full):
    count = lambda tree: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
    sizes = {"vision": 0.677, "dit": 1.365, "eva": 4.350, "unet": 2.526, "vae": 0.084}
    for part, billions in sizes.items():
        assert round(count(full[part]) / 1e9, 3) == billions, part
    assert full["queries"].shape == (64, 3584)
    assert round(sum(count(part) for part in checkpoint.split(full)["main"].values()) / 1e9, 3) == (
        9.655
    )


def test_adapters_cover_the_modules_of_their_roles(full):
    name = partial(checkpoint.official_module, Blip3oConfig())
    covered = {}
    for role, specs in ROLES.items():
        adapter = jax.eval_shape(lambda key, s=specs: init(key, full, s), jax.random.key(0))
        covered[role] = {name(path): lora.a.shape[-1] for path, lora in adapter.items()}
        layers = sum(lora.a.shape[0] if lora.a.ndim == 3 else 1 for lora in adapter.values())
        assert layers == {"proposer": 196, "solver": 198, "generator": 196 + 98}[role]
        if role == "proposer":
            assert parameter_count(adapter) == 40_370_176
    assert covered["solver"].keys() - covered["proposer"].keys() == {
        "visual.merger.mlp.0",
        "visual.merger.mlp.2",
    }
    assert covered["solver"]["visual.merger.mlp.0"] == 4
    assert covered["generator"].keys() - covered["proposer"].keys() == {
        *(f"model.dit.model.layers.{{n}}.attn2.to_{x}" for x in ("q", "k", "v", "out.0")),
        "model.dit.model.caption_projection.linear_1",
        "model.dit.model.caption_projection.linear_2",
    }


@pytest.mark.parametrize("role", ROLES)
def test_adapters_go_through_peft_files(blip3o, role, tmp_path):
    """Towers have projections of the same names; the rule of targets finds none of those."""
    base, config = blip3o.params.base, blip3o.backbone.config
    name = partial(checkpoint.official_module, config)
    abstract = jax.eval_shape(lambda key: init(key, base, ROLES[role]), jax.random.key(0))
    draw = lambda leaf: np.random.default_rng(leaf.size).random(leaf.shape, np.float32)
    adapter = jax.tree.map(draw, abstract)
    peft.save(tmp_path, adapter, name, "tiny BLIP3o")
    held = {key[:-14] for key in load_file(tmp_path / peft.WEIGHTS_FILE)}  # .lora_A.weight
    tables = checkpoint.tables(config, base)
    modules = {key.rpartition(".")[0] for table in tables.values() for key in table}
    targets = json.loads((tmp_path / peft.CONFIG_FILE).read_text())["target_modules"]
    chosen = {f"{peft.PREFIX}{module}" for module in modules if re.fullmatch(targets, module)}
    assert chosen == held
    again = peft.load(tmp_path, base, name)
    assert {path: lora.scale for path, lora in again.items()} == {
        path: lora.scale for path, lora in adapter.items()
    }
    jax.tree.map(np.testing.assert_array_equal, again, dict(adapter))


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the golden model that a test may damage."""
    return shutil.copytree(folder, tmp_path / "model")


def values(folder):
    """All tensors of a folder."""
    found = {}
    for part in checkpoint.PARTS:
        opened = Checkpoint(checkpoint.part_files(folder, part))
        found |= {f"{part}.{name}": opened.read(name) for name in opened.file}
    return found


def test_export_writes_equal_values_and_reads_back(blip3o, copy, tmp_path):
    """What the network does not read is copied, the rest is written."""
    out = tmp_path / "out"
    (copy / "vocab.json").write_text("{}")
    tower = {"model.gen_vision_tower.vision_tower.model.cls_token": np.ones((1, 1, 3), np.float32)}
    save_file(tower, copy / "model-2.safetensors")
    backbone, base = checkpoint.load(copy, "float32")
    assert "eva" not in base
    checkpoint.export(out, backbone, base, copy)
    jax.tree.map(np.testing.assert_array_equal, values(out), values(copy))
    assert (out / "vocab.json").exists()
    again, loaded = checkpoint.load(out, "float32", targets=True)
    assert again.config == blip3o.backbone.config
    jax.tree.map(np.testing.assert_array_equal, loaded, blip3o.params.base)


@pytest.mark.slow
def test_export_of_a_new_model_needs_no_origin(blip3o, tmp_path):
    checkpoint.export(tmp_path, blip3o.backbone, blip3o.params.base, None)
    _, loaded = checkpoint.load(tmp_path, "float32", targets=True)
    jax.tree.map(np.testing.assert_array_equal, loaded, blip3o.params.base)


def test_parameters_are_cut_over_a_mesh(blip3o, folder):
    mesh = jax.make_mesh((1, 4, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    _, base = checkpoint.load(folder, "float32", mesh, targets=True)
    jax.tree.map(np.testing.assert_array_equal, base, blip3o.params.base)
    cut = {path for path, leaf in paths(base) if not leaf.sharding.is_fully_replicated}
    for part in ("language.layers", "vision.layers", "dit.layers", "eva.layers", "unet.mid"):
        assert any(path.startswith(part) for path in cut), part


def test_the_autoencoder_stays_in_float32(blip3o, folder):
    base = blip3o.backbone.abstract_base("bfloat16")
    assert base["queries"].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(base["vae"])} == {np.dtype(np.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(base["unet"])} == {jnp.dtype(jnp.bfloat16)}
    assert checkpoint.stored_dtype(folder) == "float32"


def test_the_target_encoder_is_loaded_when_it_is_asked_for(blip3o, folder, tmp_path):
    """From an official folder and from a converted one, whose arrays lack it."""
    pixels = jnp.full((1, 40, 40, 3), 0.25)
    want = blip3o.jit("encode_target")(pixels, None).values
    model = open_model(str(folder))
    with pytest.raises(UserError, match=r"targets=True .*eva_clip\.safetensors"):
        model.backbone.encode_target(Params(model.base), pixels, None)
    save_converted(tmp_path, model)
    for name in (folder, tmp_path):
        model = open_model(str(name), targets=True)
        found = model.backbone.encode_target(Params(model.base), pixels, None)
        np.testing.assert_allclose(found.values, want, atol=1e-5)


def test_a_pickled_tower_is_not_read(copy):
    """The one line that converts it is part of the message."""
    (copy / checkpoint.EVA_FILE).rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"is missing; .*a pickle.*save_file\(torch\.load\("):
        checkpoint.load(copy, "float32", targets=True)
    checkpoint.load(copy, "float32")


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


DAMAGES = {
    "no decoder": (lambda f: shutil.rmtree(f / DECODER / "unet"), ["config.json|unet", "copy"]),
    "truncated": (
        lambda f: (f / checkpoint.MAIN_FILE).write_bytes(b"half a file"),
        ["truncated", checkpoint.MAIN_FILE],
    ),
    "queries missing": (
        lambda f: save_file(
            without(load_file(f / checkpoint.MAIN_FILE), "model.latent_queries"),
            f / checkpoint.MAIN_FILE,
        ),
        ["model.latent_queries is missing"],
    ),
    "unknown": (
        lambda f: save_file({"model.other": np.ones(3, np.float32)}, f / "more.safetensors"),
        ["model.other", "belongs to no part"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(copy, damage):
    change, words = DAMAGES[damage]
    change(copy)
    with pytest.raises(UserError) as error:
        checkpoint.load(copy, "float32")
    for word in words:
        assert re.search(word, str(error.value)), str(error.value)


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        checkpoint.load(tmp_path / "absent")
