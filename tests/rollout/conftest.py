"""The golden BAGEL model with random adapters, and the contexts that the rollouts start from."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from PIL import Image as Pillow

from asg_jax.backbone import LoRA, Params, Prompt, encode
from asg_jax.models.bagel import checkpoint
from asg_jax.models.bagel.backbone import BagelBackbone
from asg_jax.models.bagel.processor import BagelProcessor
from tests import goldens

# Most of the time of these tests is compilation, and most of that is LLVM's optimisation.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

MODULES = ("und.q_proj", "und.v_proj", "und.mlp.down_proj", "gen.k_proj", "gen.o_proj")


@dataclass
class Tiny:
    """A backbone, its base parameters alone and with an adapter, and its processor."""

    backbone: BagelBackbone
    frozen: Params
    adapted: Params
    processor: BagelProcessor

    def pictures(self) -> Prompt:
        """Two prompts of one picture each, of different sizes."""
        rng = np.random.default_rng(0)
        draw = lambda *size: Pillow.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        request = self.processor.prompt([[draw(30, 44)], [draw(56, 28)]], "embed")
        return jit(encode, static_argnums=0)(self.backbone, self.frozen, request).main


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    folder = goldens.folder("bagel/model")
    backbone, base = checkpoint.load(folder, "float32")
    processor = BagelProcessor.load(folder, backbone.config)
    return Tiny(backbone, Params(base), Params(base, random_adapter(base)), processor)


def random_adapter(base, rank: int = 2) -> dict[str, LoRA]:
    """Factors large enough to change what the model says and draws."""
    rng = np.random.default_rng(1)
    normal = lambda *shape: jnp.asarray(rng.normal(0, 0.3, shape), jnp.float32)
    adapter = {}
    for name in MODULES:
        node = base["language"]["layers"]
        for part in name.split("."):
            node = node[part]
        layers, inputs, outputs = node["kernel"].shape
        factors = normal(layers, inputs, rank), normal(layers, rank, outputs)
        adapter[f"language.layers.{name}"] = LoRA(*factors, 0.5)
    return adapter


def longer(prompt: Prompt, rows: int) -> Prompt:
    """The same prompt in a longer bucket; the new rows hold rubbish."""
    pad = lambda x, value: np.pad(
        x, [(0, 0), (0, rows), *[(0, 0)] * (x.ndim - 2)], constant_values=value
    )
    return replace(
        prompt,
        ids=pad(prompt.ids, 7),
        slot=pad(prompt.slot, -1),
        positions=pad(prompt.positions, 3),
        order=pad(prompt.order, np.iinfo(np.int32).max),
        mask=pad(prompt.mask, False),
    )


def equations(jaxpr):
    """Every equation of a program, those of its inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)
