"""What the roles of a run have learned: PEFT folders, written at its end and read by commands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from asg_jax.backbone import Params
from asg_jax.engine.state import TrainState
from asg_jax.models import peft
from asg_jax.models.registry import Model, open_model
from asg_jax.train.evolve.config import FILE
from asg_jax.train.evolve.files import Folder, fetched, folder_of, read_json, stored

ADAPTERS = "adapters"


def export(model: Model, name: str, state: TrainState, folder: Folder) -> None:
    """Writes what every role is evaluated with into the folder of a run."""
    with stored(folder / ADAPTERS) as place:
        for role, learned in state.roles.items():
            peft.save(place / role, learned.evaluated, model.official_module, name)


def open_roles(name: str) -> tuple[Model, Mapping[str, Params]]:
    """Opens a model with the parameters of its roles.

    Args:
      name: the folder of a finished run, or a model as `open_model` takes it. Roles that have
        learned nothing there are the model as it is, whatever their name.

    Raises:
      UserError: nothing of that name is there, or its files are damaged.
    """
    run = folder_of(name)
    learned = (run / ADAPTERS).is_dir() and (run / FILE).is_file()
    model = open_model(read_json(run / FILE, "model")["model"] if learned else name)
    roles = defaultdict(lambda: Params(model.base))
    if learned:
        with fetched(run / ADAPTERS) as place:
            for role in sorted(path.name for path in place.iterdir() if path.is_dir()):
                adapter = peft.load(place / role, model.base, model.official_module)
                roles[role] = Params(model.base, adapter)
    return model, roles
