"""Values of a config file as frozen dataclasses, checked by their annotations."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from asg_jax.errors import UserError

T = TypeVar("T")


def build(kind: type[T], values: Mapping[str, Any], path: str = "config") -> T:
    """A dataclass of these values; fields that are left out keep their defaults.

    Args:
      kind: the dataclass.
      values: one for each field; mappings where a field is a dataclass itself.
      path: how the values are called in errors.

    Raises:
      UserError: a name is unknown, a needed one is missing, or a value is of another type.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0)[0]
            raise UserError(f"{path}.{name} is no setting; the nearest is {path}.{near}.")
    for name, field in fields.items():
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise UserError(f"{path}.{name} is missing; give it a value.")
    return kind(**{k: _convert(hints[k], v, f"{path}.{k}") for k, v in values.items()})


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(typing.cast(type, hint), value, path)
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if kinds := alternatives(hint):
        return _chosen(kinds, value, path)
    if origin in (typing.Union, types.UnionType):
        return _first(options, value, path)
    if origin is typing.Literal and value in options:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        same = len(options) == 2 and options[1] is Ellipsis
        kinds = options[:1] * len(value) if same else options
        if len(kinds) == len(value):
            pairs = zip(kinds, value, strict=True)
            return tuple(_convert(kind, v, f"{path}[{n}]") for n, (kind, v) in enumerate(pairs))
    if origin is Mapping and isinstance(value, Mapping):
        return {name: _convert(options[1], v, f"{path}.{name}") for name, v in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if hint is Any or hint is type(None) and value is None or type(value) is hint:
        return value
    expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    raise UserError(f"{path} is {value!r}; it must be of type {expected}.")


def alternatives(hint: Any) -> dict[str, Any]:
    """By their names, the dataclasses of which a field of this type takes one."""
    options = typing.get_args(hint)
    several = len(options) > 1 and all(map(dataclasses.is_dataclass, options))
    return {option.name: option for option in options} if several else {}


def _chosen(kinds: Mapping[str, Any], value: Any, path: str) -> Any:
    """One of several dataclasses: `name` says which, and the group of that name its fields."""
    if type(value) in kinds.values():
        return value
    if not isinstance(value, Mapping) or value.get("name") not in kinds:
        given = value.get("name") if isinstance(value, Mapping) else value
        raise UserError(f"{path}.name is {given!r}; choose one of: {', '.join(kinds)}.")
    for name in value:
        if name not in ("name", *kinds):
            near = difflib.get_close_matches(name, kinds, n=1, cutoff=0)[0]
            raise UserError(f"{path}.{name} is no setting; the nearest is {path}.{near}.")
    name = value["name"]
    return build(kinds[name], value.get(name, {}), f"{path}.{name}")


def _first(options: tuple[Any, ...], value: Any, path: str) -> Any:
    """The value as the first of several types that it fits."""
    for option in options[:-1]:
        try:
            return _convert(option, value, path)
        except UserError:
            continue
    return _convert(options[-1], value, path)


def as_config(settings: Any) -> ConfigDict:
    """A dataclass as what a config file returns: flags can change every field."""
    config, hints = ConfigDict(), typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if kinds := alternatives(hints[field.name]):  # all, so that a flag can choose another
            chosen = {value.name: value}
            groups = {name: as_config(chosen.get(name, kind())) for name, kind in kinds.items()}
            value = ConfigDict({"name": value.name, **groups})
        elif dataclasses.is_dataclass(value):
            value = as_config(value)
        elif isinstance(value, Mapping):
            value = ConfigDict(dict(value))
        elif value is None:  # a flag's type comes from the value that it changes
            value = placeholder(typing.get_args(hints[field.name])[0])
        config[field.name] = value
    return config


def changed(settings: T, changes: Mapping[str, Any]) -> T:
    """The settings with other values.

    Args:
      settings: a dataclass, with others in it, or with mappings.
      changes: values by dotted path.
    """
    for path, value in changes.items():
        name, _, rest = path.partition(".")
        if isinstance(settings, Mapping):
            value = changed(settings[name], {rest: value}) if rest else value
            settings = typing.cast(T, {**settings, name: value})
        else:
            value = changed(getattr(settings, name), {rest: value}) if rest else value
            settings = dataclasses.replace(typing.cast(Any, settings), **{name: value})
    return settings


def plain(value: Any) -> Any:
    """Dataclasses as dicts and tuples as lists, as JSON holds them."""
    if dataclasses.is_dataclass(value):
        found = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        name = getattr(type(value), "name", None)  # one of several says which it is
        return found if name is None or "name" in found else {"name": name, name: found}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {}
        found |= inner or {f"{path}{name}": value}
    return found
