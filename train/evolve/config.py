"""The settings of a run: a config file's values as frozen dataclasses, and a run folder's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from asg_jax.errors import UserError
from asg_jax.methods.asg.settings import Settings
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.typed import build, flat, plain

FILE = "config.json"
FREE = (
    "mesh",
    "checkpoint",
    "watch",
)  # a run may go on with other values: they do not change its numbers


@dataclass(frozen=True)
class Data:
    """Where unlabeled pictures come from.

    Attributes:
      folder: any folder of pictures; rendered scenes if empty.
      seed: of the rendered scenes.
    """

    folder: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """Pictures per step of all processes together."""

    understanding: int = 16
    generation: int = 8


@dataclass(frozen=True)
class Replay:
    """Drawn pictures that are learned from again.

    Attributes:
      size: pictures that are kept; the oldest go.
      share: of an understanding batch that comes from them.
      only: once there are any, all pictures of all steps come from them.
    """

    size: int = 64
    share: float = 0.25
    only: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """When the state is saved, in steps, and how many of the saved states stay."""

    every: int = 10
    keep: int = 2


@dataclass(frozen=True)
class MeshAxes:
    """How devices share the work.

    Attributes:
      fsdp: devices that share the parameters.
      tensor: devices that share every layer; the data axis takes the devices that are left.
      rollouts: run on the mesh, or with a whole copy of the model on every device.
    """

    fsdp: int = 1
    tensor: int = 1
    rollouts: Literal["mesh", "pmap"] = "mesh"


@dataclass(frozen=True)
class Watch:
    """A short judgement while the run goes on.

    Attributes:
      every: steps between two of them; 0 is never.
      questions: that are asked.
      prompts: that are drawn.
    """

    every: int = 0
    questions: int = 400
    prompts: int = 120


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on.

    Attributes:
      name: of the run; its folder is runs/NAME by default.
      model: name or folder, for `open_model`.
      dtype: of parameters and computation; as stored if empty.
      remat: what the backward pass recomputes instead of keeping it.
      seed: of everything random.
      steps: understanding and generation steps together.
      language: of prompts and answers; one of `asg_jax.prompts.LANGUAGES`.
      data: source of pictures.
      batch: sizes.
      replay: of the replay buffer.
      checkpoint: saving.
      mesh: devices.
      method: of the method.
      eval: of the judgement before and after.
      watch: of the one on the way.
    """

    name: str
    model: str
    language: str
    dtype: Literal["", "float32", "bfloat16"] = ""
    remat: Literal["none", "dots", "full"] = "none"
    seed: int = 0
    steps: int = 250
    data: Data = Data()
    batch: Batch = Batch()
    replay: Replay = Replay()
    checkpoint: Checkpoint = Checkpoint()
    mesh: MeshAxes = MeshAxes()
    method: Settings = Settings()
    eval: EvalSettings = EvalSettings()
    watch: Watch = Watch()


def read(values: Mapping[str, Any]) -> RunConfig:
    """The settings of a config file.

    Raises:
      UserError: a name or a value is wrong.
    """
    config = build(RunConfig, values)
    for path, number in (
        ("steps", config.steps),
        ("checkpoint.every", config.checkpoint.every),
        ("checkpoint.keep", config.checkpoint.keep),
        ("batch.understanding", config.batch.understanding),
        ("batch.generation", config.batch.generation),
        ("replay.size", config.replay.size),
    ):
        if number < 1:
            raise UserError(f"config.{path} is {number}; it must be at least 1.")
    if not 0 <= config.replay.share <= 1:
        raise UserError(f"config.replay.share is {config.replay.share}; it must be in [0, 1].")
    return config


def check_folder(folder: Path, config: RunConfig) -> None:
    """Makes sure that a run folder is new or belongs to these settings.

    Raises:
      UserError: it was made with others.
    """
    path = folder / FILE
    if not path.exists():
        return
    before, now = flat(json.loads(path.read_text())), flat(plain(config))
    for name in sorted(before.keys() | now.keys()):
        if name.split(".")[0] not in FREE and before.get(name) != now.get(name):
            raise UserError(
                f"{folder} holds a run with config.{name}={before.get(name)}, not"
                f" {now.get(name)}; name another --workdir, or remove that folder to start anew."
            )
