"""Every method takes a step on a backbone that draws features of pictures, by a flow."""

from dataclasses import replace

import jax
import pytest

from asg_jax.methods import METHODS
from asg_jax.models.registry import Model
from asg_jax.testing import make_tiny
from tests.methods.relatives import make, moved, run

# Who learns in the first step (in SEER the evaluator, in SUDER who captions).
LEARN = {
    "suder_grpo": {"solver"},
    "suder_simpo": {"solver"},
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
    """With the tower that turns pictures into what it draws, for SUDER."""
    tiny = make_tiny("blip3o-tiny", tmp_path_factory.mktemp("tiny"))
    whole = tiny.family.complete(tiny.backbone)
    return replace(tiny, backbone=whole, base=jax.jit(whole.init_base)(jax.random.key(0)))


def test_no_method_is_left_out() -> None:
    assert LEARN.keys() == METHODS.keys() - {"asg"}


@pytest.mark.parametrize("name", [*SHORT, *LONG])
def test_a_step(blip3o: Model, name: str) -> None:
    """Those that learn from what is accepted take three: the judge may accept all or nothing."""
    first, last, reports = run(make(blip3o, name), 3 if name.startswith("internal_gap") else 1)
    assert moved(first, last) == LEARN[name]
    for role in LEARN[name]:
        assert any(report.metrics[f"gradient/{role}"] > 0 for report in reports)
