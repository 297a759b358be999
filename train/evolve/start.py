"""A run from Python, as `asg-jax evolve` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etils import epath

from asg_jax.train.evolve.config import RunConfig, read
from asg_jax.train.evolve.files import Folder, read_json
from asg_jax.train.evolve.run import SUMMARY, finish
from asg_jax.train.evolve.typed import changed, plain
from asg_jax.train.flags import load_config


def load_run(name: str = "bagel_tiny", **changes: Any) -> RunConfig:
    """The settings of a run.

    Args:
      name: which config, as `--config` takes it.
      changes: settings by their names, `__` for the dots: `batch__understanding=8`.

    Raises:
      UserError: there is no such config, or a value does not fit.
    """
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    config = read(load_config(name).to_dict())
    return read(plain(changed(config, dotted)))


def evolve(
    config: RunConfig | str = "bagel_tiny", folder: Folder | str | None = None, **changes: Any
) -> dict[str, Any]:
    """Lets a model improve itself, or goes on where an earlier run in the folder was stopped.

    Args:
      config: settings, or the name of a config.
      folder: where the run is kept; runs/NAME by default.
      changes: as `load_run` takes them.

    Returns:
      The summary of the run, which is `summary.json` in its folder.

    Raises:
      UserError: a setting is wrong, or the folder holds another run.
      KeyboardInterrupt: the run was asked to stop; the same call goes on later.
    """
    run = load_run(config, **changes) if isinstance(config, str) else config
    place = epath.Path(folder or Path("runs") / run.name).expanduser()
    if finish(run, place):
        raise KeyboardInterrupt
    return read_json(place / SUMMARY)
