"""Adapters: coverage, start, gradients, merging, on the tiny and on the full-size BAGEL."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax import adapters
from asg_jax.adapters import LoRASpec
from asg_jax.backbone import Adapter, Draw, LoRA, Params, Prompt, Prompts, PyTree, Target
from asg_jax.errors import UserError
from asg_jax.models.bagel.adapters import ROLES
from asg_jax.models.bagel.backbone import BagelBackbone
from asg_jax.models.bagel.checkpoint import load
from asg_jax.models.bagel.config import BagelConfig
from tests import goldens

KEY = jax.random.key(0)
Model = tuple[BagelBackbone, PyTree]


@pytest.fixture(scope="module")
def model() -> Model:
    return load(goldens.folder("bagel/model"), "float32")


@pytest.fixture(scope="module")
def run(model: Model) -> dict[str, Callable]:
    """The function of the base and the adapter that each role's loss is made of."""
    backbone, _ = model
    ids = jax.random.randint(KEY, (2, 10), 0, 256)
    rows = jnp.broadcast_to(jnp.arange(6), (2, 6))
    prompt = Prompt(
        ids[:, :6], jnp.full((2, 6), -1), rows[..., None], rows, jnp.ones((2, 6), dtype=bool)
    )
    noise, clean = jax.random.normal(KEY, (2, 2, 1, 4, backbone.config.token_channels))

    @jax.jit
    def text(base: PyTree, adapter: Adapter | None) -> jax.Array:
        answer, mask = ids[:, None, 6:], jnp.ones((2, 1, 4), dtype=bool)
        return backbone.hidden(Params(base, adapter), prompt, answer, mask)

    @jax.jit
    def picture(base: PyTree, adapter: Adapter | None) -> jax.Array:
        params = Params(base, adapter)
        condition = backbone.condition(params, Prompts(prompt), jax.random.split(KEY, 2))
        draw = Draw(jnp.array([[0.3], [0.8]]), noise)
        return backbone.terms(params, condition, Target(clean, (2, 2)), draw).prediction

    return {"proposer": text, "solver": text, "generator": picture}


def trained(base: PyTree, role: str) -> Adapter:
    """An adapter that changes something."""
    adapter = adapters.init(KEY, base, ROLES[role])
    return {
        path: replace(lora, b=jax.random.normal(jax.random.fold_in(KEY, n), lora.b.shape) * 0.05)
        for n, (path, lora) in enumerate(adapter.items())
    }


def test_start(model: Model):
    specs = [LoRASpec(r"language\.layers\.und\.mlp\.\w+", 8, 4), LoRASpec(r"connector\.fc2")]
    adapter = adapters.init(KEY, model[1], specs)
    assert set(adapter) == {
        "connector.fc2",
        *(f"language.layers.und.mlp.{name}_proj" for name in ("gate", "up", "down")),
    }
    kernels = adapters.linear_maps(model[1])
    for path, lora in adapter.items():
        *layers, inputs, outputs = kernels[path].shape
        rank, scale = (8, 0.5) if layers else (16, 2.0)
        assert lora.a.shape == (*layers, inputs, rank)
        assert lora.b.shape == (*layers, rank, outputs)
        assert lora.scale == scale
        assert lora.a.dtype == lora.b.dtype == jnp.float32
        assert not lora.b.any()
        spread = jnp.std(lora.a) * np.sqrt(lora.a.shape[-2])
        np.testing.assert_allclose(spread, 1, atol=0.1)


def test_numbers_of_a_module_depend_on_its_path_alone(model: Model):
    _, base = model
    few = adapters.init(KEY, base, [LoRASpec(r"language\.layers\.und\.q_proj")])
    many = adapters.init(KEY, base, ROLES["generator"])
    for path, lora in few.items():
        np.testing.assert_array_equal(lora.a, many[path].a)
    twin = "language.layers.gen.q_proj"
    assert not np.isclose(many[twin].a, many["language.layers.und.q_proj"].a).any()


def test_roles_are_drawn_independently(model: Model):
    roles = adapters.init_roles(KEY, model[1], ROLES)
    assert set(roles) == {"proposer", "solver", "generator"}
    path = "language.layers.und.o_proj"
    assert not np.isclose(roles["proposer"][path].a, roles["solver"][path].a).any()


def test_the_last_matching_pattern_counts(model: Model):
    specs = [LoRASpec(r"connector\.fc\d"), LoRASpec(r"connector\.fc1", rank=4)]
    adapter = adapters.init(KEY, model[1], specs)
    assert {path: lora.a.shape[-1] for path, lora in adapter.items()} == {
        "connector.fc1": 4,
        "connector.fc2": 16,
    }


@pytest.mark.parametrize("pattern", [r"conector\.fc1", r"fc1", r"connector\.fc", r"vision"])
def test_a_pattern_without_a_match_is_named(model: Model, pattern: str):
    with pytest.raises(UserError) as error:
        adapters.init(KEY, model[1], [LoRASpec(r"vae2llm"), LoRASpec(pattern)])
    assert f"'{pattern}'" in str(error.value)
    assert ("connector.fc1" in str(error.value)) == ("fc" in pattern)


def test_full_size():
    base = BagelBackbone(BagelConfig()).abstract_base()
    roles = jax.eval_shape(lambda key: adapters.init_roles(key, base, ROLES), KEY)
    counts = {role: adapters.parameter_count(adapter) for role, adapter in roles.items()}
    assert counts == {"proposer": 40_370_176, "solver": 40_370_176, "generator": 80_740_352}
    assert len(roles["solver"]) == 7
    assert len(roles["generator"]) == 14
    assert roles["solver"]["language.layers.und.k_proj"].b.shape == (28, 16, 512)


@pytest.mark.parametrize("role", ["solver", "generator"])
def test_an_untrained_adapter_is_the_frozen_model(model: Model, run: dict, role: str):
    _, base = model
    adapter = adapters.init(KEY, base, ROLES[role])
    np.testing.assert_array_equal(run[role](base, adapter), run[role](base, None))
    np.testing.assert_array_equal(
        run[role](adapters.merge(base, adapter), None), run[role](base, None)
    )


@pytest.mark.parametrize("role", ["solver", "generator"])
def test_attached_equals_merged(model: Model, run: dict, role: str):
    _, base = model
    adapter = trained(base, role)
    attached, merged = run[role](base, adapter), run[role](adapters.merge(base, adapter), None)
    np.testing.assert_allclose(attached, merged, rtol=5e-5, atol=5e-5)
    assert np.abs(attached - run[role](base, None)).max() > 1e-2


def test_merging_keeps_dtypes_and_everything_else(model: Model):
    _, base = model
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), base["language"])
    adapter = trained(base, "solver")
    merged = adapters.merge({"language": half}, adapter)["language"]
    assert merged["lm_head"]["table"] is half["lm_head"]["table"]
    lora = adapter["language.layers.und.k_proj"]
    kernel = half["layers"]["und"]["k_proj"]["kernel"]
    expected = np.asarray(kernel, np.float64) + lora.scale * (
        np.asarray(lora.a, np.float64) @ np.asarray(lora.b, np.float64)
    )
    result = merged["layers"]["und"]["k_proj"]["kernel"]
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(result, np.float64), expected, rtol=2**-8)


def test_merging_a_plain_kernel():
    base = {"fc": {"kernel": jnp.eye(3), "bias": jnp.ones(3)}}
    lora = LoRA(jnp.ones((3, 1)), jnp.arange(3.0)[None], 2.0)
    merged = adapters.merge(base, {"fc": lora})
    np.testing.assert_array_equal(merged["fc"]["kernel"], np.eye(3) + 2 * np.arange(3))
    np.testing.assert_array_equal(merged["fc"]["bias"], base["fc"]["bias"])


@pytest.mark.parametrize("role", ["proposer", "solver", "generator"])
def test_gradients(model: Model, run: dict, role: str):
    _, base = model
    adapter = adapters.init(KEY, base, ROLES[role])
    target = jax.random.normal(KEY, run[role](base, None).shape)
    gradient = jax.grad(lambda adapter: jnp.mean((run[role](base, adapter) - target) ** 2))
    first = gradient(adapter)
    for path, lora in first.items():
        assert not lora.a.any(), path
        assert np.abs(lora.b).max(axis=(1, 2))[0] > 0, path
    stepped = jax.tree.map(lambda leaf, change: leaf - 0.1 * change, adapter, first)
    for path, lora in gradient(stepped).items():
        assert np.abs(lora.a).max() > 0, path
        assert np.abs(lora.b).max() > 0, path


def test_a_module_that_the_model_lacks(model: Model, run: dict):
    _, base = model
    lora = adapters.init(KEY, base, [LoRASpec(r"vae2llm")])["vae2llm"]
    with pytest.raises(UserError, match=r"'vae2lm'.*lacks.*vae2llm"):
        adapters.merge(base, {"vae2lm": lora})
    with pytest.raises(KeyError, match="'vae2lm', which the model lacks"):
        run["solver"](base, {"vae2lm": lora})


def plain(shape: tuple[int, ...] = (2, 400, 3)) -> LoRA:
    """Factors of ones."""
    return LoRA(jnp.ones(shape), jnp.ones((shape[0], shape[-1], 5)), 2.0)


def test_dropout_of_nothing_is_the_adapter_itself():
    adapter = {"m": plain()}
    assert adapters.dropped(adapter, KEY, 0.0) is adapter


def test_dropout_ignores_whole_inputs_and_keeps_the_mean():
    dropped = adapters.dropped({"m": plain()}, KEY, 0.2)["m"]
    rows = dropped.a[..., 0]
    np.testing.assert_array_equal(dropped.a, jnp.broadcast_to(rows[..., None], dropped.a.shape))
    np.testing.assert_allclose(jnp.unique(rows), [0, 1.25])
    assert abs(float((rows == 0).mean()) - 0.2) < 0.06  # four standard errors of 800 draws
    assert (rows[0] != rows[1]).any()  # another draw in every layer
    np.testing.assert_array_equal(dropped.b, plain().b)
    assert dropped.scale == 2.0
    draws = jax.vmap(lambda key: adapters.dropped({"m": plain((1, 4, 1))}, key, 0.5)["m"].a)
    np.testing.assert_allclose(draws(jax.random.split(KEY, 2000)).mean(0), 1, atol=0.1)


def test_dropout_follows_key_and_path_alone():
    adapter = {"m": plain(), "n": plain()}
    one, again = (adapters.dropped(adapter, KEY, 0.5) for _ in range(2))
    np.testing.assert_array_equal(one["m"].a, again["m"].a)
    np.testing.assert_array_equal(one["m"].a, adapters.dropped({"m": plain()}, KEY, 0.5)["m"].a)
    assert (one["m"].a != one["n"].a).any()
    other = adapters.dropped(adapter, jax.random.key(1), 0.5)
    assert (one["m"].a != other["m"].a).any()
