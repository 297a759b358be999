"""`--help` describes every setting of every config, from what the dataclasses say themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import pytest

from asg_jax.ranges import bounded
from asg_jax.train.evolve.config import read
from asg_jax.train.evolve.typed import as_config, build
from asg_jax.train.flags import config_files, load_config
from asg_jax.train.main import main
from asg_jax.train.pretrain.settings import PretrainSettings
from asg_jax.train.settings_help import help_lines, meanings, sections, type_words


@dataclass(frozen=True)
class Base:
    """What they share.

    Attributes:
      rate: of change,
        per step.
      first, last: ends.
    """

    rate: float = bounded(0.5, least=0, below=1)
    first: int = 0
    last: int | None = None


@dataclass(frozen=True)
class Derived(Base):
    """One of them. (A source.)

    Attributes:
      first: the other end.
      kind: of thing.
      weights: by name.
    """

    kind: Literal["", "a"] = ""
    weights: Mapping[str, float] = field(default_factory=lambda: {"diversity": 0.1})


def test_attributes_are_read_from_the_docstrings_of_a_class_and_its_bases():
    assert meanings(Derived) == {
        "rate": "of change, per step.",
        "first": "the other end.",
        "last": "ends.",
        "kind": "of thing.",
        "weights": "by name.",
    }


def test_types_are_told_in_words():
    told = [int | None, Literal["", "a"], tuple[float, ...], tuple[int, int]]
    assert [type_words(hint) for hint in told] == [
        "int or None",
        "one of '', a",
        "(float, ...)",
        "(int, int)",
    ]


def test_a_setting_has_meaning_type_range_and_value():
    assert "\n".join(help_lines(Derived())).splitlines() == [
        "",
        "config: One of them. (A source.)",
        "  --config.rate=0.5  (float, at least 0 and below 1)",
        "      of change, per step.",
        "  --config.first=0  (int)",
        "      the other end.",
        "  --config.last=None  (int or None)",
        "      ends.",
        "  --config.kind=  (one of '', a)",
        "      of thing.",
        "",
        "config.weights: by name.",
        "  --config.weights.diversity=0.1  (float)",
        "      S_div in [0, 1]: what a drawing adds to the variety of its group.",
    ]


def leaves(config, path: str = "config") -> dict:
    found = {}
    for name in config:
        value = config.get_ref(name).get()
        nested = hasattr(value, "get_ref")
        found |= leaves(value, f"{path}.{name}") if nested else {f"{path}.{name}": value}
    return found


@pytest.mark.parametrize("name", config_files())
def test_every_flag_of_every_config_is_described(name):
    reader = partial(build, PretrainSettings) if name.endswith("pretrain") else read
    settings = reader(load_config(name).to_dict())
    listed = [row for section in sections(settings) for row in section.settings]
    assert {row.path: row.value for row in listed} == leaves(as_config(settings))
    assert [row.path for row in listed if not row.meaning] == []


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help_of_a_command_shows_the_values_of_the_named_config(flag, capsys):
    assert main(["evolve", flag, "--config=vargpt_tiny"]) == 0
    told = capsys.readouterr().out
    assert "--workdir" in told and "--config.method.images=16  (int, at least 1)" in told
    assert main(["pretrain", flag]) == 0
    assert "--config.scenes=5000  (int, at least 1)" in capsys.readouterr().out
    assert main(["evolve", flag, "--config=bagel_tny"]) == 2
    assert "did you mean 'bagel_tiny'" in capsys.readouterr().err
