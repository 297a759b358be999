"""The settings of a run: a config file's values as frozen dataclasses, and a run folder's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from asg_jax.errors import UserError
from asg_jax.methods import preset
from asg_jax.ranges import SEED, bounded, check
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.boards import Mode
from asg_jax.train.evolve.files import Folder, read_json
from asg_jax.train.evolve.typed import build, flat, plain

FILE = "config.json"
# A run may go on with other values of these: they do not change its numbers.
FREE = ("mesh.", "checkpoint.", "watch.", "batch.micro")


@dataclass(frozen=True)
class Data:
    """Where unlabeled pictures come from.

    Attributes:
      folder: any folder of pictures; rendered scenes if empty.
      side: pixels of the square that every picture is brought to, by resizing and cutting off what
        sticks out; 0 leaves the size to the model.
    """

    folder: str = ""
    side: int = bounded(0, least=0, most=8192)


@dataclass(frozen=True)
class Batch:
    """Pictures per step of all processes together.

    Attributes:
      understanding: examples of a step that asks and answers.
      generation: examples of a step that draws.
      micro: examples that each device takes at a time in updates and drawings; None is all of them.
    """

    understanding: int = bounded(16, least=1)
    generation: int = bounded(8, least=1)
    micro: int | None = bounded(None, least=1)


@dataclass(frozen=True)
class Replaying:
    """Drawn pictures that are learned from again.

    Attributes:
      size: pictures that are kept; the oldest go.
      share: which part of an understanding batch comes from them, in [0, 1].
      only: once there are any, all pictures of all steps come from them.
    """

    size: int = bounded(64, least=1)
    share: float = bounded(0.25, least=0, most=1)
    only: bool = False


@dataclass(frozen=True)
class Saving:
    """When the state is saved.

    Attributes:
      every: steps between two savings.
      keep: saved states that stay, the newest.
    """

    every: int = bounded(10, least=1)
    keep: int = bounded(2, least=1)


@dataclass(frozen=True)
class MeshAxes:
    """How devices share the work.

    Attributes:
      fsdp: devices that share the parameters.
      tensor: devices that share every layer; the data axis takes the devices that are left.
      rollouts: run on the mesh, or with a whole copy of the model on every device.
    """

    fsdp: int = bounded(1, least=1)
    tensor: int = bounded(1, least=1)
    rollouts: Literal["mesh", "pmap"] = "mesh"


@dataclass(frozen=True)
class Watch:
    """A short judgement while the run goes on.

    Attributes:
      every: steps between two of them; 0 is never.
      questions: how many are asked.
      prompts: how many are drawn.
      wandb: whether Weights & Biases is told of the run: never, in files that `wandb sync` sends
        later, or at once.
    """

    every: int = bounded(0, least=0)
    questions: int = bounded(400, least=1)
    prompts: int = bounded(120, least=1)
    wandb: Mode = "off"


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on.

    Attributes:
      name: the run's; its folder is runs/NAME by default.
      model: name or folder, for `open_model`.
      dtype: parameters and computation have it; as stored if empty.
      remat: what the backward pass recomputes instead of keeping it.
      quantize: how the matrices of the language model's layers are held while they are frozen:
        int8 takes half of bfloat16's memory, and more time on GPUs.
      seed: everything random depends on it.
      steps: all phases together.
      language: what prompts and answers are in; one of `asg_jax.prompts.LANGUAGES`.
      data: source of pictures.
      batch: sizes.
      replay: the replay buffer's settings.
      checkpoint: saving.
      mesh: devices.
      method: settings of a method, of the type that `METHODS` has for its field `name`.
      eval: the judgement before and after.
      watch: the judgement on the way.
    """

    name: str
    model: str
    language: str
    method: Any
    dtype: Literal["", "float32", "bfloat16"] = ""
    remat: Literal["none", "dots", "full"] = "none"
    quantize: Literal["none", "int8"] = "none"
    seed: int = bounded(0, SEED)
    steps: int = bounded(250, least=1)
    data: Data = Data()
    batch: Batch = Batch()
    replay: Replaying = Replaying()
    checkpoint: Saving = Saving()
    mesh: MeshAxes = MeshAxes()
    eval: EvalSettings = EvalSettings()
    watch: Watch = Watch()


def read(values: Mapping[str, Any]) -> RunConfig:
    """The settings of a config file.

    Raises:
      UserError: a name or a value is wrong.
    """
    given = values.get("method")
    if not isinstance(given, Mapping):
        raise UserError(f"config.method is {given!r}; it must hold the settings of a method.")
    method = build(preset(given.get("name", "")).settings, given, "config.method")
    config = build(RunConfig, {**values, "method": method})
    check(config, "config")
    return config


def check_folder(folder: Folder, config: RunConfig) -> None:
    """Makes sure that a run folder is new or belongs to these settings.

    Raises:
      UserError: it was made with others.
    """
    path = folder / FILE
    if not path.exists():
        return
    before, now = flat(read_json(path)), flat(plain(config))
    for name in sorted(before.keys() | now.keys()):
        if not name.startswith(FREE) and before.get(name) != now.get(name):
            raise UserError(
                f"{folder} holds a run with config.{name}={before.get(name)}, not"
                f" {now.get(name)}; name another --workdir, or remove that folder to start anew."
            )
