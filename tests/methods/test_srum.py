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


@pytest.mark.slow
@flows
def test_a_control_weighs_places_at_random(model) -> None:
    """The same drawings and verdicts; another update."""
    shuffled = (False, True)
    (_, own, (seen,)), (_, dealt, (control,)) = (
        run(make(model, "srum", shuffled=value), 1) for value in shuffled
    )
    assert moved(own, dealt) == {"generator"}
    for name in ("reward/generator", "signal/region"):
        assert control.metrics[name] == pytest.approx(seen.metrics[name], abs=1e-6)
    assert control.metrics["signal/place_weight"] != seen.metrics["signal/place_weight"]


@bits
def test_a_backbone_of_bits_has_no_places(model) -> None:
    with pytest.raises(UserError, match="places of a drawing, but the bits of this backbone"):
        make(model, "srum")
