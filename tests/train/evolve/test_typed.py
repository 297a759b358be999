"""A wrong value of a config is named in one sentence, whatever its depth."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from asg_jax.errors import UserError
from asg_jax.train.evolve.typed import as_config, build, changed, flat, plain


@dataclass(frozen=True)
class Inner:
    size: int
    rate: float = 0.5
    grid: tuple[int, int] = (4, 4)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    kind: Literal["a", "b"] = "a"
    window: int | None = None
    names: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=lambda: {"vote": 1.0})


GOOD = {
    "inner": {"size": 3, "rate": 1, "grid": [2, 2]},
    "kind": "b",
    "names": ["x"],
    "weights": {"ste": 2},
}


def test_values_become_dataclasses_of_their_types():
    built = build(Outer, GOOD)
    assert built == Outer(Inner(3, 1.0, (2, 2)), "b", None, ("x",), {"ste": 2.0})
    assert type(built.inner.rate) is float
    assert build(Outer, {**GOOD, "window": 7}) == replace(built, window=7)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"inner": {"sise": 3}}, "config.inner.sise is no setting; the nearest is config.inner.si"),
        ({"inner": {}}, "config.inner.size is missing; give it a value."),
        ({"inner": {"size": 2.5}}, "config.inner.size is 2.5; it must be of type int."),
        ({"inner": {"size": True}}, "config.inner.size is True; it must be of type int."),
        ({"inner": {"size": 1, "grid": (1,)}}, r"config.inner.grid is \(1,\)"),
        ({"inner": {"size": 1, "grid": (1, "2")}}, r"config.inner.grid\[1\] is '2'"),
        ({"kind": "c"}, r"config.kind is 'c'; it must be of type Literal\['a', 'b'\]."),
        ({"window": "7"}, "config.window is '7'"),
        ({"weights": {"ste": "much"}}, "config.weights.ste is 'much'; it must be of type float."),
        ({"inner": 3}, "config.inner is 3; it must be of type Inner."),
    ],
)
def test_a_wrong_value_is_named(change, message):
    with pytest.raises(UserError, match=message):
        build(Outer, {**GOOD, **change})


def test_a_config_goes_there_and_back():
    settings = Outer(Inner(3))
    config = as_config(settings)
    assert build(Outer, config.to_dict()) == settings
    config.window = 9  # it was None
    config.weights = {"vote": 0.5}
    assert build(Outer, config.to_dict()) == replace(settings, window=9, weights={"vote": 0.5})
    with pytest.raises(TypeError):
        config.window = "nine"


def test_names_are_dotted():
    assert flat(plain(Outer(Inner(3)))) == {
        "inner.size": 3,
        "inner.rate": 0.5,
        "inner.grid": [4, 4],
        "kind": "a",
        "window": None,
        "names": [],
        "weights.vote": 1.0,
    }


def test_settings_change_by_dotted_path():
    after = changed(Outer(Inner(3)), {"inner.rate": 0.1, "weights.vote": 0.0, "kind": "b"})
    assert after == Outer(Inner(3, 0.1), "b", weights={"vote": 0.0})
