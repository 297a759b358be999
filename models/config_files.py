"""The json files of a checkpoint folder: reading with errors for people, fields of other names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from asg_jax.errors import UserError
from asg_jax.ranges import Range

OPTIONAL = ("head_dim",)  # null says that it follows from other fields
ID_ENDS = ("_id", "_of_image")  # of fields that may be 0
SIGNED = ("shift_factor",)
LONGEST_LIST = 64
SHOWN = 8  # wrong fields that an error names
MOST: dict[str, int] = dict.fromkeys(
    ("num_hidden_layers", "depth", "layers", "blocks", "num_res_blocks", "scales", "levels"), 1000
)
FULL = {"full_attention"}
# Fields of a Qwen2 decoder that make it another network, with the values that are computed.
QWEN2 = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False,),
    "attention_bias": (True,),
    "mlp_bias": (False,),
    "tie_word_embeddings": (False,),
}


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """The content of a json file.

    Args:
      path: the file.
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
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable as json ({error}); restore the file.") from error


def write_objects(folder: Path, contents: Mapping[str, Any]) -> None:
    """Writes json files by name."""
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def check_kinds(path: Path, content: Mapping[str, Any], like: Mapping[str, Any]) -> None:
    """Makes sure that the fields of a file are of the kinds and sizes that make sense.

    Args:
      path: the file.
      content: its content; fields that `like` lacks may hold anything.
      like: a good file, whose values show what each field must be. Whole numbers must be above 0
        (ids may be 0), others finite and above 0, lists of one kind and not empty.

    Raises:
      UserError: names the fields that are not.
    """
    found = list(_misfits(content, like, ""))
    if found:
        more = f" {len(found) - SHOWN} more are wrong." if len(found) > SHOWN else ""
        raise UserError(f"{path}: {' '.join(found[:SHOWN])}{more} Restore the file.")


def _misfits(content: Mapping[str, Any], like: Mapping[str, Any], name: str) -> Iterator[str]:
    for field in content.keys() & like.keys():
        yield from _misfit(content[field], like[field], name + field)


def _misfit(value: Any, like: Any, name: str) -> Iterator[str]:
    field = re.sub(r"\W.*", "", name.rsplit(".", 1)[-1])
    if field in OPTIONAL and value is None:
        return
    kind, must = type(like), None
    if kind is dict:
        if isinstance(value, dict):
            yield from _misfits(value, like, f"{name}.")
        else:
            must = "an object"
    elif kind in (list, tuple):
        if isinstance(value, list) and 0 < len(value) <= LONGEST_LIST:
            for n, item in enumerate(value):
                yield from _misfit(item, like[0], f"{name}[{n}]")
        else:
            must = "a list"
    elif kind is int:
        allowed = Range(least=0 if field.endswith(ID_ENDS) else 1, most=MOST.get(field, 10**8))
        must = f"a whole number, {allowed.fault(value)}" if type(value) is int else "a whole number"
        must = must if type(value) is not int or allowed.fault(value) else None
    elif kind is float:
        allowed = Range() if field in SIGNED else Range(above=0)
        good = type(value) in (int, float) and allowed.fault(float(value)) is None
        must = None if good else "a number" if field in SIGNED else "a number above 0"
    elif type(value) is not kind:
        must = {str: "a text", bool: "true or false"}[kind]
    if must:
        yield f"{name} is {json.dumps(value)[:60]}; it must be {must}."


def check_computed(path: Path, content: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuses fields that would make the network another one than is computed.

    Args:
      path: the file.
      content: its content.
      known: the values of such fields that are computed; none of the fields needs to be there.

    Raises:
      UserError: names every field with another value.
    """
    found = [
        f"{name} is {json.dumps(content[name])[:60]}, only {json.dumps(values[0])} is computed."
        for name, values in known.items()
        if name in content and content[name] not in values and content[name] is not None
    ]
    if found:
        raise UserError(f"{path}: {' '.join(found)} Take a checkpoint without that.")


def check_decoder(path: Path, content: Mapping[str, Any]) -> None:
    """Refuses a Qwen2 decoder that is not the one of `models.layers.language`.

    Raises:
      UserError: names the fields.
    """
    check_computed(path, content, QWEN2)
    kinds = content.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or set(map(str, kinds)) - FULL):
        raise UserError(
            f"{path}: layer_types is {json.dumps(kinds)[:60]}, only full attention is computed; "
            "take a checkpoint without that."
        )


def rotary(path: Path, content: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """The parameters of the rotary index, wherever a file says them.

    Args:
      path: the file.
      content: its content: `rope_theta` alone, `rope_scaling`, or both inside `rope_parameters`.
      kinds: which scalings are computed.

    Returns:
      `rope_theta` and, where it stands, `mrope_section`.

    Raises:
      UserError: the file contradicts itself, or asks for what is not computed.
    """
    found: dict[str, Any] = {}
    for field in ("rope_scaling", "rope_parameters"):
        part = content.get(field) or {}
        if not isinstance(part, dict):
            raise UserError(f"{path}: {field} is {json.dumps(part)[:60]}; it must be an object.")
        known = {"rope_type": kinds, "type": kinds, "partial_rotary_factor": (1,), "factor": (1,)}
        read = {"rope_theta", "mrope_section"}
        wrong = [name for name in part.keys() - read if part[name] not in known.get(name, ())]
        if wrong:
            said = ", ".join(f"{name} {json.dumps(part[name])[:60]}" for name in sorted(wrong))
            raise UserError(
                f"{path}: {field} has {said}, which is not computed; take a checkpoint without it."
            )
        found |= {name: part[name] for name in ("rope_theta", "mrope_section") if name in part}
    own = content.get("rope_theta")
    if own is not None and found.get("rope_theta", own) != own:
        raise UserError(f"{path}: rope_theta and rope_parameters.rope_theta differ; correct one.")
    return found | ({} if own is None else {"rope_theta": own})


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
