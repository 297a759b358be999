"""The json files of a checkpoint folder: reading with errors for people, fields of other names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from asg_jax.errors import UserError


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """The content of a json file.

    Args:
      path: of the file.
      expected: what a folder of this kind holds, as the end of a sentence.

    Raises:
      UserError: it is missing, or holds no json object.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {expected}.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable as json ({error}); restore the file.") from error


def write_objects(folder: Path, contents: Mapping[str, Any]) -> None:
    """Writes json files by name."""
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


@contextmanager
def interpreting(folder: Path, model: str) -> Iterator[None]:
    """Names the folder where its files lack a field, or hold one of a wrong kind.

    Raises:
      UserError: in the place of the errors that such fields cause.
    """
    try:
        yield
    except KeyError as error:
        raise UserError(
            f"{folder}: the json files lack the field {error}; they do not describe a {model} "
            "model."
        ) from error
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{folder}: a field of the json files has a value of a wrong kind ({error}); "
            "restore the files of the checkpoint."
        ) from error


def renamed(default: Any, content: Mapping[str, Any], fields: Mapping[str, str]) -> Any:
    """A dataclass with the values that a file gives; `fields` maps official names to ours."""
    known = {ours: content[name] for name, ours in fields.items() if name in content}
    return replace(default, **{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()})


def official(part: Any, fields: Mapping[str, str]) -> dict[str, Any]:
    """The values of a dataclass under their official names."""
    return {name: getattr(part, ours) for name, ours in fields.items()}
