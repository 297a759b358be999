"""The golden models with random adapters, and the contexts that the rollouts start from."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from PIL import Image as Pillow

from asg_jax.adapters import LoRASpec, init
from asg_jax.backbone import Adapter, Backbone, Params, Processor, Prompt, encode
from asg_jax.models.registry import open_model
from tests import goldens
from tests.models.blip3o import golden as blip3o
from tests.models.vargpt import golden as vargpt

# Most of the time of these tests is compilation, and most of that is LLVM's optimisation.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# What the random adapters cover: maps that texts pass (`und`), and maps that drawings alone pass.
TEXTS = r"language\.layers\.und\.(q_proj|v_proj|mlp\.down_proj)"
DRAWINGS = {
    "bagel": r"language\.layers\.gen\.[ko]_proj",
    "blip3o": r"dit\.layers\.(attn2\.to_v|to_out)",
    "vargpt": r"decoder\.blocks\.sa\.qkv",
}
FOLDERS = {"blip3o": blip3o.make_folder, "vargpt": vargpt.make_folder}
flows = pytest.mark.parametrize("tiny", ["bagel"], indirect=True)


@dataclass
class Tiny:
    """A backbone, its base parameters alone and with an adapter, and its processor."""

    backbone: Backbone
    frozen: Params
    adapted: Params
    processor: Processor

    def pictures(self) -> Prompt:
        """Two prompts of one picture each, of different sizes."""
        rng = np.random.default_rng(0)
        draw = lambda *size: Pillow.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        request = self.processor.prompt([[draw(30, 44)], [draw(56, 28)]], "embed")
        return jit(encode, static_argnums=0)(self.backbone, self.frozen, request).main


@pytest.fixture(scope="session", params=DRAWINGS)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    if request.param == "bagel":
        folder = goldens.folder("bagel/model")
    else:
        folder = FOLDERS[request.param](tmp_path_factory.mktemp(request.param))
    model = open_model(str(folder), "float32")
    adapter = random_adapter(model.base, f"{TEXTS}|{DRAWINGS[request.param]}")
    params = Params(model.base), Params(model.base, adapter)
    return Tiny(model.backbone, *params, model.processor)


def random_adapter(base, modules: str) -> Adapter:
    """Factors large enough to change what the model says and draws."""
    rng = np.random.default_rng(1)
    normal = lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32)
    adapter = init(jax.random.key(0), base, [LoRASpec(modules, rank=2, alpha=1.0)])
    return {
        path: replace(lora, a=normal(lora.a), b=normal(lora.b)) for path, lora in adapter.items()
    }


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
