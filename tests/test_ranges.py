"""Ranges: each kind of bound, and every fault of nested settings in one message."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from asg_jax.errors import UserError
from asg_jax.ranges import SEED, Range, bounded, check, faults


@pytest.mark.parametrize(
    ("within", "good", "bad"),
    [
        (Range(least=1), [1, 5, 2**31 - 1], [0, -1, 2**31, math.nan, math.inf]),
        (Range(above=0), [1e-30, 3.0], [0.0, -1.0, math.nan, math.inf]),
        (Range(least=0, most=1), [0, 0.5, 1.0], [-1e-9, 1.1, math.nan, math.inf, -math.inf]),
        (Range(least=0, below=1), [0.0, 0.999], [1.0, math.nan]),
        (Range(), [-5, 0.0, 1e30], [math.nan, math.inf, -math.inf, 2**31, -(2**31)]),
        (SEED, [0, 2**32 - 1], [-1, 2**32]),
    ],
)
def test_a_range_holds_its_bounds_and_no_number_without_size(within, good, bad):
    assert [within.fault(value) for value in good] == [None] * len(good)
    assert all(within.fault(value) for value in bad)


def test_a_fault_says_what_the_number_must_be():
    assert Range(least=1).fault(0) == "at least 1"
    assert Range(above=0, most=1).fault(2.0) == "above 0 and at most 1"
    assert Range(least=1).fault(2**31) == "at least 1 and at most 2147483647"
    assert Range().fault(math.nan) == "at least -3e+38 and at most 3e+38"


@dataclass(frozen=True)
class Inner:
    rate: float = bounded(0.1, least=0)
    pair: tuple[float, float] = bounded((0.0, 1.0), least=0, most=1)
    free: float = 0.0


@dataclass(frozen=True)
class Outer:
    seed: int = bounded(0, SEED)
    rank: int | None = bounded(None, least=1)
    flag: bool = True
    name: str = "x"
    inner: Inner = Inner()


def test_all_faults_of_nested_settings_are_named():
    assert faults(Outer()) == []
    wrong = Outer(seed=-1, rank=0, inner=Inner(-1.0, (0.0, 2.0), math.nan))
    assert faults(wrong, "config") == [
        "config.seed is -1; it must be at least 0 and at most 4294967295.",
        "config.rank is 0; it must be at least 1.",
        "config.inner.rate is -1.0; it must be at least 0.",
        "config.inner.pair is (0.0, 2.0); it must be at least 0 and at most 1.",
        "config.inner.free is nan; it must be at least -3e+38 and at most 3e+38.",
    ]
    with pytest.raises(UserError, match=r"config\.seed .* config\.inner\.free"):
        check(wrong, "config")
