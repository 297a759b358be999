"""Command-line flags: absl's, one set per command, with errors for people."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from asg_jax.errors import UserError
from asg_jax.models.places import place
from asg_jax.ranges import SEED, Range
from asg_jax.train.settings_help import help_lines

CONFIG = "config"  # name of the flag
HELP = {"--help", "-h", "--helpfull"}


def define_config(values: flags.FlagValues, default: str) -> None:
    """Defines `--config`, and `--config.FIELD=VALUE` for every field of the config it names.

    It takes the path of a Python file or the name of a run in `asg_jax.configs`. After `parse`,
    `values.config` is the locked config with the fields that were changed.

    Args:
      values: the flags of a command.
      default: name of a run.
    """
    meaning = (
        "Run to start from: a file or one of asg_jax.configs; --config.FIELD=VALUE changes it."
    )
    flags.DEFINE_string(CONFIG, default, meaning, values)


def number(
    values: flags.FlagValues,
    name: str,
    default: float | None,
    meaning: str,
    kind: type[int] | type[float] = int,
    within: Range | None = None,
    **bounds: float,
) -> None:
    """Defines a flag whose number must lie in a range; `parse` names all that do not.

    Args:
      values: the flags of a command.
      name: the flag's.
      default: None if it need not be given.
      meaning: what `--help` says of it.
      kind: which numbers it takes.
      within: the range; without it one of these `bounds`, see `Range`.
    """
    define: Any = flags.DEFINE_integer if kind is int else flags.DEFINE_float
    define(name, default, meaning, flag_values=values)
    allowed = within or Range(**bounds)

    def valid(value: float | None) -> bool:
        fault = None if value is None else allowed.fault(value)
        if fault:
            raise flags.ValidationError(f"it must be {fault}.")
        return True

    flags.register_validator(name, valid, flag_values=values)


def parse(
    values: flags.FlagValues,
    argv: Sequence[str],
    usage: str,
    words: int | None = 0,
    settings: Callable[[Mapping[str, Any]], Any] | None = None,
) -> list[str] | None:
    """Parses a command's arguments into its flags.

    Args:
      values: the flags of the command.
      argv: the words after the command's name.
      usage: what `--help` prints before the flags.
      words: how many words that are no flags the command takes; None is any number.
      settings: the dataclass of a config's values, whose fields `--help` describes.

    Returns:
      Those words, or None if help was asked for and printed.

    Raises:
      UserError: a flag is unknown, has a bad value, or a word is missing or too many.
    """
    if HELP & set(argv):
        print(f"{usage}\n\nflags:")
        print(values.get_help(include_special_flags=False).strip())
        if settings is not None:
            config = load_config(_config_name(values, argv)[0])
            print("\nsettings of the config, with the values that it has:")
            print("\n".join(help_lines(settings(config.to_dict()))))
        return None
    try:
        if CONFIG in values:
            argv = _open_config(values, argv)
        rest = values(["asg-jax", *argv])[1:]
    except flags.Error as error:
        text = re.sub(r"flag (--\w+)=None: .*", r"the flag \1 is missing", str(error))
        text = re.sub(r"flag (--\S+)=.* is not a dict\.$", r"\1 has fields; set one of them", text)
        raise UserError(f"{text.rstrip('.')}; see `asg-jax COMMAND --help`.") from error
    if words is not None and len(rest) != words:
        raise UserError(f"expected {words} words beside the flags, got {len(rest)}: {usage}")
    return rest


def config_files() -> dict[str, Path]:
    """The files in `asg_jax.configs`, by the names that `--config` takes."""
    folder = Path(importlib.import_module("asg_jax.configs").__path__[0])
    return {file.stem: file for file in sorted(folder.glob("[a-z]*.py"))}


def seeds(texts: Sequence[str]) -> list[int]:
    """The values of a flag `--seeds`.

    Raises:
      UserError: one is no seed.
    """
    for text in texts:
        fault = SEED.fault(int(text)) if text.lstrip("-").isdecimal() else "a number"
        if fault:
            raise UserError(f"--seeds has '{text}'; a seed must be {fault}.")
    return [int(text) for text in texts]


def load_config(name: str) -> ConfigDict:
    """What `get_config` of a file, or of a module in `asg_jax.configs`, returns.

    Args:
      name: the config; after colons come the arguments of its `get_config`, if any.

    Raises:
      UserError: there is no such file or module, or it offers no config.
    """
    known = config_files()
    name, *arguments = name.split(":")
    stem = name.removeprefix("configs/").removesuffix(".py")
    path = place(name)
    if not path.is_file():
        if stem not in known:
            near = difflib.get_close_matches(stem, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}."
            raise UserError(f"there is no config '{name}'; {hint}")
        path = known[stem]
    spec = importlib.util.spec_from_file_location(f"asg_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file; name a config that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(*arguments)
    except (SyntaxError, ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"the config {path} does not load ({error}); correct it.") from error
    return config


def _config_name(values: flags.FlagValues, argv: Sequence[str]) -> tuple[str, list[str]]:
    """The config that the words name, and the other words."""
    only = flags.FlagValues()
    flags.DEFINE_string(CONFIG, values[CONFIG].default, "", only)
    rest = only(["asg-jax", *argv], known_only=True)[1:]
    return str(only[CONFIG].value), rest


def _open_config(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Puts a flag of ml_collections in the place of `--config`; the words without that flag."""
    name, rest = _config_name(values, argv)
    config = load_config(name)
    delattr(values, CONFIG)
    try:
        config_flags.DEFINE_config_dict(CONFIG, config, flag_values=values, sys_argv=rest)
    except (AttributeError, LookupError, ValueError, TypeError) as error:
        fault = next(filter(None, (_misnamed(config, word) for word in rest)), str(error))
        raise UserError(" ".join(fault.split())) from error
    return rest


def _misnamed(config: ConfigDict, word: str) -> str:
    """What is wrong with a flag that names no field of the config; else empty."""
    flag, *path = word.partition("=")[0].split(".")
    if flag.removeprefix("--no").removeprefix("--") != CONFIG:
        return ""
    node: Any = config
    for depth, name in enumerate(path):
        fault = f"the config has no field '{'.'.join(path[: depth + 1])}'"
        if not isinstance(node, ConfigDict):
            return f"{fault}, for '{'.'.join(path[:depth])}' has none."
        name, _, index = name.removesuffix("]").partition("[")  # of a tuple
        if name not in node:
            near = difflib.get_close_matches(name, list(node), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(node)}."
            return f"{fault}; {hint}"
        node = node[name]
        places = [str(n) for n in range(len(node))] if isinstance(node, tuple) else []
        if index and index not in places:
            return f"{fault}; '{name}' has {', '.join(places) or 'no places'}."
    return ""
