"""PEFT folders: PEFT's own files give PEFT's numbers, ours come back bit for bit, errors."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from asg_jax import adapters
from asg_jax.adapters import LoRASpec
from asg_jax.backbone import Adapter, PyTree
from asg_jax.errors import UserError
from asg_jax.models import peft
from asg_jax.models.bagel.adapters import ROLES
from asg_jax.models.bagel.checkpoint import load, official_module
from asg_jax.models.layers.linear import Linear, attach
from asg_jax.models.peft import CONFIG_FILE, _read_config

# The stored outputs belong to the weights beside them, so ASG_GOLDEN_DIR does not apply.
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WRITTEN_BY_PEFT = ["regex", "suffixes"]
UND = "language.layers.und"
NAME = "base_model.model.language_model.model.layers.{n}.self_attn.q_proj.lora_{f}.weight"


@pytest.fixture(scope="module")
def base() -> PyTree:
    return load(GOLDEN / "bagel" / "model", "float32")[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of an adapter that a test may spoil."""
    return Path(shutil.copytree(GOLDEN / "peft" / "regex", tmp_path / "adapter"))


class OneLinear(nnx.Module):
    """A linear map with weights of the base, alone in a model."""

    def __init__(self, weights: PyTree):
        kernel, bias = weights["kernel"], weights.get("bias")
        self.linear = Linear(*kernel.shape, bias=bias is not None, rngs=nnx.Rngs(0))
        self.linear.kernel[...] = kernel
        if self.linear.bias is not None:
            self.linear.bias[...] = bias


def weights_of(base: PyTree, path: str) -> PyTree:
    for name in path.split("."):
        base = base[name]
    return base


def assert_equal(one: Adapter, two: Adapter) -> None:
    assert set(one) == set(two)
    for path in one:
        assert one[path].scale == two[path].scale, path
        np.testing.assert_array_equal(one[path].a, two[path].a)
        np.testing.assert_array_equal(one[path].b, two[path].b)


@pytest.mark.parametrize("name", WRITTEN_BY_PEFT)
def test_outputs_are_those_of_peft(base: PyTree, name: str):
    adapter = peft.load(GOLDEN / "peft" / name, base, official_module)
    stored = load_file(GOLDEN / "peft" / "outputs.safetensors")
    compared = set()
    for path, lora in adapter.items():
        weights, official = weights_of(base, path), official_module(path)
        for layer in range(lora.a.shape[0]) if lora.a.ndim == 3 else [...]:
            model = OneLinear(jax.tree.map(lambda leaf, n=layer: leaf[n], weights))
            attach(model, {"linear": jax.tree.map(lambda leaf, n=layer: leaf[n], lora)})
            key = f"{name}.{official.format(n=layer)}"
            output = model.linear(jnp.asarray(stored[f"x{lora.a.shape[-2]}"]))
            np.testing.assert_allclose(output, stored[key], rtol=1e-5, atol=1e-5, err_msg=key)
            compared.add(key)
    assert compared == {key for key in stored if key.startswith(f"{name}.")}


def test_sizes_follow_the_patterns(base: PyTree):
    adapter = peft.load(GOLDEN / "peft" / "regex", base, official_module)
    sizes = {path: (lora.a.shape[-1], lora.scale) for path, lora in adapter.items()}
    gen = "language.layers.gen"
    assert len(sizes) == 14
    assert sizes[f"{UND}.q_proj"] == sizes[f"{gen}.k_proj"] == (4, 2.0)
    assert sizes[f"{UND}.k_proj"] == (2, 4.0)
    assert sizes[f"{UND}.mlp.down_proj"] == (2, 1.5)
    assert sizes[f"{gen}.mlp.down_proj"] == (2, 4.0)
    assert sizes[f"{gen}.q_proj"] == (4, 1.5)
    suffixes = peft.load(GOLDEN / "peft" / "suffixes", base, official_module)
    for lora in suffixes.values():
        assert lora.scale == pytest.approx(3 / np.sqrt(2))
    assert {path for path in suffixes if "down_proj" not in path} == {
        "connector.fc1",
        "vision.layers.mlp.fc1",
    }


@pytest.mark.parametrize("name", WRITTEN_BY_PEFT)
def test_what_peft_wrote_survives_our_writing(base: PyTree, tmp_path: Path, name: str):
    adapter = peft.load(GOLDEN / "peft" / name, base, official_module)
    peft.save(tmp_path, adapter, official_module, "tiny BAGEL")
    assert_equal(peft.load(tmp_path, base, official_module), adapter)
    ours = load_file(tmp_path / peft.WEIGHTS_FILE)
    theirs = load_file(GOLDEN / "peft" / name / peft.WEIGHTS_FILE)
    assert set(ours) == set(theirs)
    for key in ours:
        np.testing.assert_array_equal(ours[key], theirs[key])


@pytest.mark.parametrize(
    "specs",
    [
        ROLES["solver"],
        [LoRASpec(r".*\.und\.\w_proj", 3, 1), LoRASpec(r"connector\.fc\d", 7, 1.3)],
        [LoRASpec(r"vae2llm", 1, 0.1)],
    ],
)
def test_round_trip(base: PyTree, tmp_path: Path, specs: list[LoRASpec]):
    adapter = adapters.init(jax.random.key(1), base, specs)
    adapter = jax.tree.map(lambda leaf: leaf + 1 / 3, adapter)
    peft.save(tmp_path, adapter, official_module, "tiny BAGEL")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        peft.CONFIG_FILE,
        peft.WEIGHTS_FILE,
    ]
    assert_equal(peft.load(tmp_path, base, official_module), adapter)


def test_targets_match_no_other_module(base: PyTree, tmp_path: Path):
    adapter = adapters.init(jax.random.key(1), base, ROLES["solver"])
    peft.save(tmp_path, adapter, official_module, "tiny BAGEL")
    config = json.loads((tmp_path / peft.CONFIG_FILE).read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (16, 32.0, {})
    chosen = {
        path
        for path in adapters.linear_maps(base)
        if re.fullmatch(config["target_modules"], official_module(path).format(n=1))
    }
    assert chosen == set(adapter)


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / peft.CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    tensors = load_file(folder / peft.WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / peft.WEIGHTS_FILE)


@pytest.mark.parametrize(
    "field, value",
    [
        ("peft_type", "LOHA"),
        ("use_dora", True),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("init_lora_weights", "pissa"),
        ("layer_replication", [[0, 2]]),
        ("target_parameters", ["experts.up"]),
    ],
)
def test_more_than_plain_lora_is_refused(base: PyTree, folder: Path, field: str, value: Any):
    change_config(folder, **{field: value})
    with pytest.raises(UserError, match=f"sets {field} to .*only plain LoRA"):
        peft.load(folder, base, official_module)


def drop(*names: str) -> Callable[[dict[str, np.ndarray]], None]:
    def change(tensors: dict[str, np.ndarray]) -> None:
        for name in names:
            del tensors[name]

    return change


def put(name: str, shape: tuple[int, ...]) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda tensors: tensors.update({name: np.zeros(shape, np.float32)})


FIRST, SECOND = (tuple(NAME.format(n=n, f=f) for f in "AB") for n in (0, 1))


@pytest.mark.parametrize(
    "change, words",
    [
        (drop(FIRST[1]), r"layers\.0\.self_attn\.q_proj\.lora_B\.weight is missing"),
        (drop(*SECOND), r"leaves out language_model\.model\.layers\.1\.self_attn\.q_proj,"),
        (drop(*FIRST, *SECOND), r"layers\.0\.self_attn\.q_proj\.lora_A\.weight is missing"),
        (put(FIRST[0], (3, 64)), r"lora_A\.weight in .* has shape \(3, 64\).*\(4, 64\)"),
        (put(FIRST[1], (60, 4)), r"lora_B\.weight in .* has shape \(60, 4\).*\(64, 4\)"),
        (
            put(
                "base_model.model.language_model.model.layers.2.self_attn.q_proj.lora_A.weight", ()
            ),
            r"layers\.2\.self_attn\.q_proj\.lora_A\.weight .* belongs to no part",
        ),
        (
            put(FIRST[0].replace("lora_A.weight", "lora_magnitude_vector"), (64,)),
            "lora_magnitude_vector .* belongs to no part",
        ),
    ],
)
def test_tensors_that_do_not_fit(base: PyTree, folder: Path, change: Callable, words: str):
    change_tensors(folder, change)
    with pytest.raises(UserError, match=words):
        peft.load(folder, base, official_module)


def test_targets_without_tensors_are_missed_unless_excluded(base: PyTree, folder: Path):
    targets = ["q_proj", "gate_proj", "up_proj", "down_proj", "k_proj", "v_proj", "o_proj"]
    twins = [f"{name}_moe_gen" for name in targets]
    change_config(folder, target_modules=targets + twins)  # also those of the vision tower
    with pytest.raises(UserError, match="vit_model.*is missing"):
        peft.load(folder, base, official_module)
    change_config(folder, exclude_modules=r"vit_model\..*")
    assert len(peft.load(folder, base, official_module)) == 14


def test_layers_of_a_stack_share_rank_and_alpha(base: PyTree, folder: Path):
    change_config(folder, alpha_pattern={r"layers\.1\.self_attn\.q_proj": 5})
    with pytest.raises(UserError, match=r"\{n\}\.self_attn\.q_proj different ranks or alphas"):
        peft.load(folder, base, official_module)


def test_an_adapter_of_another_model(base: PyTree, folder: Path):
    with pytest.raises(UserError, match="covers no linear map"):
        peft.load(folder, {"vae2llm": base["vae2llm"]}, official_module)


def test_missing_and_damaged_files(base: PyTree, folder: Path):
    weights = folder / peft.WEIGHTS_FILE
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="adapter_model.safetensors is missing"):
        peft.load(folder, base, official_module)
    weights.write_bytes((folder / "adapter_model.bin").read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated"):
        peft.load(folder, base, official_module)
    for text in ("{", "[1]"):
        (folder / peft.CONFIG_FILE).write_text(text)
        with pytest.raises(UserError, match="not readable as json"):
            peft.load(folder, base, official_module)
    (folder / peft.CONFIG_FILE).unlink()
    with pytest.raises(UserError, match="adapter_config.json is missing"):
        peft.load(folder, base, official_module)


def test_half_precision_files_are_read_into_float32(base: PyTree, folder: Path):
    half = lambda tensors: tensors.update({k: v.astype(np.float16) for k, v in tensors.items()})
    change_tensors(folder, half)
    adapter = peft.load(folder, base, official_module)
    assert {leaf.dtype for leaf in jax.tree.leaves(adapter)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("r", bad) for bad in (0, -1, "32", None, True, 1.5, [8], 10**9)],
        *[("lora_alpha", bad) for bad in (None, "16", float("inf"), float("nan"), [1], True)],
        *[("target_modules", bad) for bad in ("*.q_proj", 5, [1], {"a": 1})],
        *[("exclude_modules", bad) for bad in (5, "(", [None])],
        *[("rank_pattern", bad) for bad in ({"*.q_proj": 4}, [1], {"q": 0}, {"q": "4"}, "q")],
        *[("alpha_pattern", bad) for bad in ({"q": float("inf")}, {"(": 1}, 3)],
        *[("use_rslora", bad) for bad in ("yes", 1, None)],
        ("init_lora_weights", []),
        ("peft_type", ["LORA"]),
    ],
)
def test_a_bad_field_is_named(tmp_path, field, value):
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {field: value}))
    with pytest.raises(UserError, match=field):
        _read_config(tmp_path / CONFIG_FILE)


def test_an_alpha_beyond_all_numbers_is_named(tmp_path):
    (tmp_path / CONFIG_FILE).write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 1e400}')
    with pytest.raises(UserError, match="lora_alpha is Infinity; it must be a finite number"):
        _read_config(tmp_path / CONFIG_FILE)
