"""Every method takes a step on a backbone that draws features of pictures, by a flow."""

import pytest

from asg_jax.methods import METHODS
from asg_jax.models.registry import Model
from asg_jax.testing import make_tiny
from tests.methods.relatives import make, moved, run

# Who learns in the first step (of an evaluator, in SEER; of the Solver's captions, in SUDER).
LEARN = {
    "suder_grpo": {"solver", "generator"},
    "suder_simpo": {"solver", "generator"},
    "gvu": {"generator"},
    "internal_gap_sft": {"generator"},
    "internal_gap_dpo": {"generator"},
    "srum": {"generator"},
    "silmm": {"generator"},
    "silmm_kc": {"generator"},
    "seer": {"solver"},
    "evolmm": {"solver"},
}
# The others stand beside tests of the same on the other backbones.
SHORT = ("srum", "silmm_kc")
LONG = [pytest.param(name, marks=pytest.mark.long) for name in LEARN if name not in SHORT]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def blip3o(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_tiny("blip3o-tiny", tmp_path_factory.mktemp("tiny"))


def test_no_method_is_left_out() -> None:
    assert LEARN.keys() == METHODS.keys() - {"asg"}


@pytest.mark.parametrize("name", [*SHORT, *LONG])
def test_a_step(blip3o: Model, name: str) -> None:
    first, last, (report,) = run(make(blip3o, name), 1)
    assert moved(first, last) == LEARN[name]
    gradients = {role: report.metrics[f"gradient/{role}"] for role in LEARN[name]}
    assert all(value > 0 for value in gradients.values()), gradients
