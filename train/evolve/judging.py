"""The judgement of a model before and after a run: scores, and pictures to compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from time import perf_counter
from typing import Protocol
from zlib import crc32

import numpy as np
from jaxtyping import UInt8

from asg_jax.backbone import Params, PyTree
from asg_jax.engine.state import TrainState
from asg_jax.models.registry import Model
from asg_jax.train.evaluate.generation import draw_all
from asg_jax.train.evaluate.judges import evaluate
from asg_jax.train.evaluate.prompts import prompt_set
from asg_jax.train.evaluate.scores import Scores
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.files import Folder, damaged, write_bytes

SHOWN = 180  # prompts whose pictures are kept, of all categories in turn


@dataclass(frozen=True)
class Judgement:
    """What the judges say of a model.

    Attributes:
      scores: item by item.
      pictures: drawings of the first prompts, from the same noise at every judgement.
      seconds: time that it took.
    """

    scores: Scores
    pictures: UInt8[np.ndarray, "N 32 32 3"]
    seconds: float


class Judge(Protocol):
    """Judges what the roles of a state have learned."""

    def __call__(
        self, state: TrainState | None, settings: EvalSettings, headroom: bool = True
    ) -> Judgement:
        """The judgement; without a state, that of the frozen model."""
        ...


def judge(
    model: Model,
    base: PyTree,
    state: TrainState | None,
    settings: EvalSettings,
    headroom: bool = True,
) -> Judgement:
    """Judges the roles of a state, or the model without adapters.

    Args:
      model: backbone and processor.
      base: parameters, on the device that works.
      state: NumPy arrays; None is the frozen model.
      settings: the evaluation's.
      headroom: measure as well what voting would gain.
    """
    start = perf_counter()
    adapters = {} if state is None else {name: r.evaluated for name, r in state.roles.items()}
    roles = {name: Params(base, adapters.get(name)) for name in ("solver", "generator")}
    scores = evaluate(model, roles, settings, headroom)
    prompts = prompt_set(settings.seed, settings.prompts)
    wanted = np.array([(n, 0) for n in range(min(SHOWN, len(prompts)))])
    pictures = draw_all(model, roles["generator"], prompts, wanted, settings)
    return Judgement(scores, pictures, perf_counter() - start)


def recall(folder: Folder, name: str, make: Callable[[], Judgement]) -> Judgement:
    """A judgement of the run folder, made and saved where it is missing.

    Raises:
      UserError: it is there, and damaged.
    """
    scores, pictures = folder / f"{name}.json", folder / f"{name}.npz"
    if scores.exists():
        try:
            told = scores.read_bytes()
            with np.load(BytesIO(pictures.read_bytes())) as arrays:
                if arrays.get("check", crc32(told)) != crc32(told):
                    raise ValueError("not what was written")
                judged = Scores.from_json(json.loads(told))
                return Judgement(judged, arrays["pictures"], float(arrays["seconds"]))
        except Exception as error:  # readers of zip files and JSON raise nearly anything
            raise damaged(scores, f"or {pictures.name}: {error}") from error
    judged, file = make(), BytesIO()
    told = f"{json.dumps(judged.scores.to_json())}\n".encode()
    facts = {"pictures": judged.pictures, "seconds": judged.seconds, "check": crc32(told)}
    np.savez_compressed(file, **facts)
    write_bytes(pictures, file.getvalue())
    write_bytes(scores, told)  # comes last, so that it vouches for the other
    return judged


def shortened(settings: EvalSettings, questions: int, prompts: int) -> EvalSettings:
    """The same on fewer items, the first ones."""
    whole_pictures = max(1, questions // settings.per_picture) * settings.per_picture
    return replace(settings, questions=whole_pictures, prompts=prompts)
