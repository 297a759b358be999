"""What the roles of a run have learned: PEFT folders, written at its end and read by commands."""

from __future__ import annotations

import json
from pathlib import Path

from asg_jax.backbone import Params
from asg_jax.methods.asg.settings import ROLES
from asg_jax.methods.base import TrainState
from asg_jax.models import peft
from asg_jax.models.registry import Model, open_model
from asg_jax.train.evolve.config import FILE

ADAPTERS = "adapters"


def export(model: Model, name: str, state: TrainState, folder: Path) -> None:
    """Writes the averaged adapter of every role into the folder of a run."""
    for role, learned in state.roles.items():
        peft.save(folder / ADAPTERS / role, learned.average, model.official_module, name)


def open_roles(name: str) -> tuple[Model, dict[str, Params]]:
    """Opens a model with the parameters of its roles.

    Args:
      name: the folder of a finished run, or a model as `open_model` takes it: all roles of that are
        the model as it is.

    Raises:
      UserError: nothing of that name is there, or its files are damaged.
    """
    run = Path(name).expanduser()
    if not ((run / ADAPTERS).is_dir() and (run / FILE).is_file()):
        model = open_model(name)
        return model, dict.fromkeys(ROLES, Params(model.base))
    model = open_model(json.loads((run / FILE).read_text())["model"])
    read = lambda role: peft.load(run / ADAPTERS / role, model.base, model.official_module)
    return model, {role: Params(model.base, read(role)) for role in ROLES}
