"""Official folders of VARGPT-v1.1: every tensor has one place, damage is one clear line."""

import json
import re
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from safetensors.numpy import load_file, save_file

from asg_jax.adapters import init, parameter_count
from asg_jax.errors import UserError
from asg_jax.models import peft
from asg_jax.models.checkpoint import INDEX_FILE, Checkpoint, paths
from asg_jax.models.vargpt import checkpoint
from asg_jax.models.vargpt.adapters import ROLES
from asg_jax.models.vargpt.backbone import VargptBackbone
from asg_jax.models.vargpt.config import VargptConfig
from tests import goldens

WEIGHTS = "model.safetensors"
UNUSED = re.compile("|".join(checkpoint.UNUSED))


@pytest.fixture(scope="module")
def full():
    """Shapes of the full-size parameters; nothing of the 11 billion is allocated."""
    return VargptBackbone(VargptConfig()).abstract_base()


def test_every_key_of_the_full_size_model_maps_exactly_once(full):
    """Either the network holds a tensor, or it is named as one that no output depends on."""
    facts = goldens.facts("vargpt/manifest_full.json")
    table = checkpoint.table(VargptConfig(), full)
    unused = {key for key in facts if UNUSED.fullmatch(key)}
    assert not unused & set(table)
    expected = {key: value["shape"] for key, value in facts.items() if key not in unused}
    assert {key: list(tensor.shape) for key, tensor in table.items()} == expected


def test_every_key_of_the_full_size_tokenizer_maps_exactly_once(full):
    facts = goldens.facts("vargpt/manifest_vae.json")
    table = checkpoint.table(VargptConfig(), {"vae": full["vae"]})
    expected = {f"vae_local.{key}": value["shape"] for key, value in facts.items()}
    unused = {key for key in expected if UNUSED.fullmatch(key)}
    assert len(unused) == 1
    assert {k: list(t.shape) for k, t in table.items()} | {
        k: expected[k] for k in unused
    } == expected


def test_a_new_folder_has_every_key(full):
    """What the network does not read has the official shapes, too."""
    facts = goldens.facts("vargpt/manifest_full.json")
    fresh = checkpoint.fresh(VargptConfig(), np.dtype(np.float32))
    unused = {key: value["shape"] for key, value in facts.items() if UNUSED.fullmatch(key)}
    assert {key: list(value.shape) for key, value in fresh.items()} == unused
    assert fresh["vae_local.quantizer.lfq.mask"].tolist() == [2**n for n in range(31, -1, -1)]


def test_the_full_size_model_has_the_published_number_of_parameters(full):
    count = lambda tree: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
    assert count(full["vision"]) == 675_759_104
    assert count(full["language"]) == 7_070_619_136 + 544_997_376
    assert count(full["vae"]) == 110_118_083 - 32
    assert count(full["to_language"]) == 11_544_064 - 2 * 2048
    assert count(full["from_language"]) == 20_197_888 - 2 * 3584


def test_adapters_cover_the_projections_of_the_language_model(full):
    for role in ("proposer", "solver", "generator"):
        adapter = jax.eval_shape(lambda key, s=ROLES[role]: init(key, full, s), jax.random.key(0))
        assert parameter_count(adapter) == 40_370_176, role
    larger = jax.eval_shape(lambda key: init(key, full, ROLES["drawing"]), jax.random.key(0))
    assert {path.split(".")[0] for path in larger} == {
        "language",
        "decoder",
        "to_language",
        "from_language",
    }
    assert len(larger) == 7 + 7 + 4


def test_the_larger_generator_goes_through_peft_files(vargpt, tmp_path):
    """Decoder blocks are named by chunk; the rule of targets finds them and nothing else."""
    base, config = vargpt.params.base, vargpt.backbone.config
    name = partial(checkpoint.official_module, config)
    abstract = jax.eval_shape(lambda key: init(key, base, ROLES["drawing"]), jax.random.key(0))
    draw = lambda leaf: np.random.default_rng(leaf.size).random(leaf.shape, np.float32)
    adapter = jax.tree.map(draw, abstract)
    peft.save(tmp_path, adapter, name, "tiny VARGPT")
    held = {key[:-14] for key in load_file(tmp_path / peft.WEIGHTS_FILE)}  # .lora_A.weight
    assert "base_model.model.vargpt_gen.block_chunks.1.module.0.sa.mat_qkv" in held
    modules = {key.rpartition(".")[0] for key in checkpoint.table(config, base)}
    targets = json.loads((tmp_path / peft.CONFIG_FILE).read_text())["target_modules"]
    chosen = {f"{peft.PREFIX}{module}" for module in modules if re.fullmatch(targets, module)}
    assert chosen == held and len(held) == 7 * (config.language.layers + config.decoder.layers) + 4
    again = peft.load(tmp_path, base, name)
    assert {path: lora.scale for path, lora in again.items()} == {
        path: lora.scale for path, lora in adapter.items()
    }
    jax.tree.map(np.testing.assert_array_equal, again, dict(adapter))


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the golden model that a test may damage."""
    return shutil.copytree(folder, tmp_path / "model")


def test_export_writes_equal_values_and_reads_back(vargpt, copy, tmp_path):
    """The tensors that the network does not use are copied, the rest is written."""
    out = tmp_path / "out"
    (copy / "vocab.json").write_text("{}")
    checkpoint.export(out, vargpt.backbone, vargpt.params.base, copy)
    want = load_file(copy / WEIGHTS)
    opened = Checkpoint(checkpoint.weight_files(out))
    assert set(opened.file) == set(want)
    for key, value in want.items():
        np.testing.assert_array_equal(opened.read(key), value, err_msg=key)
    assert (out / "vocab.json").read_text() == "{}"
    assert checkpoint.load(out, "float32")[0] == vargpt.backbone


def test_export_without_an_origin_has_all_keys(vargpt, copy, tmp_path):
    checkpoint.export(tmp_path / "out", vargpt.backbone, vargpt.params.base, None)
    want, opened = load_file(copy / WEIGHTS), Checkpoint(checkpoint.weight_files(tmp_path / "out"))
    assert {k: v.shape for k, v in want.items()} == opened.shape
    again = checkpoint.load(tmp_path / "out", "float32")[1]
    jax.tree.map(np.testing.assert_array_equal, again, vargpt.params.base)


def test_a_trained_start_is_exported(vargpt, copy, tmp_path):
    """The one row of the table that the network reads."""
    base = vargpt.params.base
    base = {**base, "decoder": {**base["decoder"], "drawn": base["decoder"]["drawn"] + 1}}
    checkpoint.export(tmp_path / "out", vargpt.backbone, base, copy)
    again = checkpoint.load(tmp_path / "out", "float32")[1]
    np.testing.assert_array_equal(again["decoder"]["drawn"], base["decoder"]["drawn"])


def test_bfloat16_loads_round_the_weights_and_leave_the_tokenizer(vargpt, copy):
    backbone, base = checkpoint.load(copy, "bfloat16")
    assert backbone.config.decoder.dtype == "bfloat16"
    for (path, got), (_, want) in zip(paths(base), paths(vargpt.params.base), strict=True):
        assert got.dtype == (jnp.float32 if path.startswith("vae.") else jnp.bfloat16), path
        np.testing.assert_array_equal(got, want.astype(got.dtype), err_msg=path)


def test_parameters_arrive_in_their_sharding(vargpt, copy):
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
    _, base = checkpoint.load(copy, "float32", mesh)
    kernel = base["decoder"]["blocks"]["mlp"]["fc2"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec(None, ("tensor",), ("fsdp",))
    head = base["language"]["lm_head"]["table"]
    assert head.sharding.spec == PartitionSpec(("fsdp", "tensor"), None)
    jax.tree.map(np.testing.assert_array_equal, base, vargpt.params.base)


def rewrite(path, change):
    """Changes the dict of tensors of a file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


NORM = "vargpt_gen.text_norm.weight"
DAMAGES = {
    "no folder": (lambda f: shutil.rmtree(f), ["model"]),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), ["safetensors"]),
    "no json": (lambda f: (f / "config.json").unlink(), ["config.json", "missing"]),
    "index leads outside": (
        lambda f: (f / INDEX_FILE).write_text('{"weight_map": {"a": "../x.safetensors"}}'),
        [INDEX_FILE, "outside"],
    ),
    "broken index": (
        lambda f: (f / INDEX_FILE).write_text("{}"),
        [INDEX_FILE],
    ),
    "file lost": (
        lambda f: (f / INDEX_FILE).write_text('{"weight_map": {"a": "b.safetensors"}}'),
        ["b.safetensors", "missing"],
    ),
    "tensor lost": (lambda f: rewrite(f / WEIGHTS, lambda t: t.pop(NORM)), [NORM, "missing"]),
    "tensor extra": (
        lambda f: rewrite(f / WEIGHTS, lambda t: t.update(spare=np.zeros(2, np.float32))),
        ["spare", WEIGHTS],
    ),
    "tensor misshapen": (
        lambda f: rewrite(f / WEIGHTS, lambda t: t.update({NORM: t[NORM][:-1]})),
        [NORM, WEIGHTS, "shape"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_clear_line(copy, damage):
    change, words = DAMAGES[damage]
    change(copy)
    with pytest.raises(UserError) as caught:
        checkpoint.load(copy, "float32")
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message) < 500
