"""Ways in which a model improves itself: short compositions of rollouts, signals and objectives.

A method is a file here (or a folder, if it is long) and one line in `METHODS`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from asg_jax.engine.method import Preset
from asg_jax.errors import UserError
from asg_jax.methods.asg import ABLATIONS, Asg, Settings

METHODS: dict[str, Preset] = {"asg": Preset(Settings, Asg, ABLATIONS)}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
      UserError: there is none.
    """
    if name not in METHODS:
        raise UserError(f"there is no method '{name}'; choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def settings_for(name: str, values: Mapping[str, Any]) -> Any:
    """A method's settings with those of the values that it knows: what fits a model fits them all.

    Raises:
      UserError: there is no method of that name.
    """
    kind = preset(name).settings
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in values.items() if key in known})
