"""What `--help` says of a config: meaning, type, range and value of every setting.

All of it is said once, where the settings are declared: in the docstrings' Attributes, the
annotations and the ranges of their dataclasses.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from asg_jax import ranges
from asg_jax.signals.table import DRAWINGS, QUESTIONS
from asg_jax.train.evolve.typed import alternatives

WIDTH = 100  # of a line
_ENTRY = re.compile(r"^  (\w+(?:, \w+)*): (.*(?:\n    .*)*)", re.MULTILINE)


class Setting(NamedTuple):
    """One number, word or switch that a flag changes.

    Attributes:
      path: dotted, as in the flag.
      value: what it is now.
      kind: its type and range, in words.
      meaning: what the docstring says about it.
    """

    path: str
    value: Any
    kind: str
    meaning: str


class Section(NamedTuple):
    """Settings that belong together.

    Attributes:
      path: dotted.
      meaning: what its class's docstring says first.
      settings: its own, without those of the sections below.
    """

    path: str
    meaning: str
    settings: list[Setting]


def meanings(kind: type) -> dict[str, str]:
    """What the docstring of a class, and those it inherits from, say of its attributes."""
    found = {}
    for base in reversed(kind.__mro__):
        _, _, listed = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        for names, meaning in _ENTRY.findall(listed):
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found


def type_words(hint: Any) -> str:
    """The values that an annotation allows."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(option) or "''" for option in options)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join("None" if o is type(None) else type_words(o) for o in options)
    if typing.get_origin(hint) is tuple:
        return "(" + ", ".join("..." if o is Ellipsis else type_words(o) for o in options) + ")"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def sections(settings: Any, path: str = "config", meaning: str = "") -> Iterator[Section]:
    """All settings of a dataclass, section by section.

    Args:
      settings: an instance, with others in it.
      path: how it is called.
      meaning: what is said of it beside its docstring.
    """
    hints, said = typing.get_type_hints(type(settings)), meanings(type(settings))
    own: list[Setting] = []
    below: list[Section] = []
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        name, about = f"{path}.{field.name}", said.get(field.name, "")
        if kinds := alternatives(hint):
            named = f"one of {', '.join(kinds)}"
            below.append(Section(name, about, [Setting(f"{name}.name", value.name, named, about)]))
            for chosen, kind in kinds.items():
                inner = value if value.name == chosen else kind()
                below += sections(inner, f"{name}.{chosen}")
        elif dataclasses.is_dataclass(value):
            below += sections(value, name, about)
        elif isinstance(value, Mapping):
            kind = _kind(typing.get_args(hint)[1], field)
            rows = [Setting(f"{name}.{k}", v, kind, _signal(k)) for k, v in value.items()]
            below.append(Section(name, about, rows))
        else:
            own.append(Setting(name, value, _kind(hint, field), about))
    title = inspect.cleandoc(type(settings).__doc__ or "").splitlines()[0]
    yield Section(path, f"{title.rstrip('.')} ({meaning.rstrip('.')})" if meaning else title, own)
    yield from below


def help_lines(settings: Any, path: str = "config") -> Iterator[str]:
    """All settings of a dataclass as text; see `sections`."""
    for section in sections(settings, path):
        yield ""
        yield from textwrap.wrap(f"{section.path}: {section.meaning}", WIDTH)
        for setting in section.settings:
            yield f"  --{setting.path}={setting.value}  ({setting.kind})"
            yield from textwrap.wrap(
                setting.meaning, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
            )


def _kind(hint: Any, field: dataclasses.Field[Any]) -> str:
    return ", ".join(filter(None, [type_words(hint), str(ranges.declared(field))]))


def _signal(name: str) -> str:
    """What a signal of that name is; weights are given by such names."""
    signal = (QUESTIONS | DRAWINGS).get(name)
    return (inspect.getdoc(signal.read) or "").split("\n\n")[0] if signal else ""
