"""SRUM on tiny random models: places weigh; what it cannot train it refuses."""

import pytest

from asg_jax.errors import UserError
from tests.methods.relatives import make, moved, run
from tests.tiny import bits, flows


@pytest.mark.slow
@flows
@pytest.mark.parametrize("variant", ["release", "paper"])
def test_places_are_weighed_by_what_the_judge_says_of_them(model, variant: str) -> None:
    first, last, (report,) = run(make(model, "srum", variant=variant), 1)
    assert moved(first, last) == {"generator"} and report.metrics["gradient/generator"] > 0
    weight = report.metrics["signal/place_weight"]
    assert 0 < weight < 1 if variant == "release" else -1 < weight < 1
    assert -1 <= report.metrics["signal/region"] <= 1


@bits
def test_a_backbone_of_bits_has_no_places(model) -> None:
    with pytest.raises(UserError, match="places of a drawing, but the bits of this backbone"):
        make(model, "srum")
