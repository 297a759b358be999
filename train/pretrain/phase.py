"""One phase of optimization: batches by step number, checkpoints, a log, going on after a kill."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import jax
import optax
import orbax.checkpoint as ocp
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from asg_jax.backbone import PyTree
from asg_jax.errors import UserError

LOG_EVERY = 50  # steps
# Of the trained part, the rest, a batch and a key: the loss, and its parts by name.
Loss = Callable[[PyTree, PyTree, Any, Key[Array, ""]], tuple[Float[Array, ""], Mapping[str, Array]]]


@dataclass(frozen=True)
class Phase:
    """What a phase does.

    Attributes:
      name: what its checkpoints and log are called.
      steps: number of updates.
      seed: gives the keys of the loss.
      batch: what a step learns from; a function of its number alone.
      loss: what is minimised.
      optimizer: the update rule.
      checkpoint_every: steps between checkpoints.
    """

    name: str
    steps: int
    seed: int
    batch: Callable[[int], Any]
    loss: Loss
    optimizer: optax.GradientTransformation
    checkpoint_every: int


def run_phase(phase: Phase, trained: PyTree, frozen: PyTree, workdir: Path) -> PyTree:
    """Runs a phase, or what is left of it, and returns the trained part."""
    update = jax.jit(_update(phase), donate_argnums=0)
    carry = (trained, phase.optimizer.init(trained))
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    folder = (workdir / phase.name).absolute()
    handler = ocp.StandardCheckpointHandler()  # else Orbax asks the newest folder for its kind
    with ocp.CheckpointManager(folder, item_handlers=handler, options=options) as manager:
        carry, start = _latest(manager, carry)
        batches = grain.MapDataset.range(start, phase.steps).map(phase.batch)
        ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        log = _Log(phase, workdir, start)
        for n, batch in enumerate(batches.to_iter_dataset(ahead), start + 1):
            carry, parts = update(carry, frozen, batch, n)
            log(n, parts)
            if n % phase.checkpoint_every == 0 or n == phase.steps:
                manager.save(n, args=ocp.args.StandardSave(carry))
        log.close()
    return carry[0]


def _latest(manager: ocp.CheckpointManager, fresh: PyTree) -> tuple[PyTree, int]:
    """The newest checkpoint that is whole, and its step; newer ones are removed.

    Raises:
      UserError: there are some, and none is whole.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    for n, step in enumerate(steps):
        try:
            found = manager.restore(step, args=ocp.args.StandardRestore(fresh))
        except Exception as error:  # readers of arrays raise nearly anything
            reason = " ".join(str(error).split())[:200]
            tqdm.write(f"the checkpoint of step {step} is damaged, an older one is taken: {reason}")
            continue
        for damaged in steps[:n]:
            manager.delete(damaged)
        return found, step
    if steps:
        raise UserError(
            f"no checkpoint in {manager.directory} is whole; remove that folder to start anew."
        )
    return fresh, 0


def _update(phase: Phase) -> Callable[[Any, PyTree, Any, Array], tuple[Any, Mapping[str, Array]]]:
    def update(carry, frozen, batch, n):
        trained, state = carry
        key = jax.random.fold_in(jax.random.key(phase.seed), n)
        slope, parts = jax.grad(phase.loss, has_aux=True)(trained, frozen, batch, key)
        updates, state = phase.optimizer.update(slope, state, trained)
        return (optax.apply_updates(trained, updates), state), parts

    return update


class _Log:
    """Mean losses every LOG_EVERY steps, as a line of JSON and beside the progress bar."""

    def __init__(self, phase: Phase, workdir: Path, start: int):
        self._phase, self._file = phase, workdir / "metrics.jsonl"
        self._bar = tqdm(total=phase.steps, initial=start, desc=phase.name, disable=None)
        self._parts: list[Mapping[str, Array]] = []
        self._begin = time.monotonic()

    def __call__(self, n: int, parts: Mapping[str, Array]) -> None:
        self._parts.append(parts)
        self._bar.update()
        if n % LOG_EVERY and n != self._phase.steps:
            return
        names = self._parts[0]
        means = {
            name: float(sum(float(part[name]) for part in self._parts) / len(self._parts))
            for name in names
        }
        seconds = (time.monotonic() - self._begin) / len(self._parts)
        line = {"phase": self._phase.name, "step": n, "seconds_per_step": round(seconds, 3)}
        with self._file.open("a") as file:
            file.write(json.dumps(line | means) + "\n")
        shown = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        left = seconds * (self._phase.steps - n) / 60
        tqdm.write(f"{self._phase.name} {n}/{self._phase.steps}  {shown}  {left:.0f} min left")
        self._parts, self._begin = [], time.monotonic()

    def close(self) -> None:
        self._bar.close()
