"""A run without a model: pictures of noise, and a method that moves numbers deterministically."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from PIL import Image
from PIL.Image import Image as Picture

from asg_jax.backbone import LoRA
from asg_jax.methods.asg.settings import Settings
from asg_jax.methods.base import Kept, Report, RoleState, TrainState
from asg_jax.objectives.schedule import phase
from asg_jax.train.data.loading import Example
from asg_jax.train.data.questions import KINDS
from asg_jax.train.evaluate.outcomes import Outcomes
from asg_jax.train.evaluate.prompts import CATEGORIES
from asg_jax.train.evaluate.scores import Scores
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.config import Batch, Checkpoint, Replay, RunConfig
from asg_jax.train.evolve.history import History
from asg_jax.train.evolve.interruption import Interruption
from asg_jax.train.evolve.judging import Judgement
from asg_jax.train.evolve.logs import Logs
from asg_jax.train.evolve.loop import train
from asg_jax.train.evolve.parts import Parts
from asg_jax.train.evolve.placement import Placement
from asg_jax.train.mesh import make_mesh

ROLES = ("proposer", "solver", "generator")
CONFIG = RunConfig(
    name="fake",
    model="none",
    language="none",
    seed=3,
    steps=23,
    batch=Batch(understanding=4, generation=2),
    replay=Replay(size=3, share=0.5),
    checkpoint=Checkpoint(every=4, keep=2),
    method=Settings(),
    eval=EvalSettings(),
)


class Noise:
    """Small pictures of noise, by number."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: SupportsIndex) -> Example:
        number = index.__index__()
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        return Example(number, Image.fromarray(pixels))


@partial(jax.jit, donate_argnums=0)
def learn(state: TrainState, pixels: jax.Array, ids: jax.Array, key: jax.Array) -> TrainState:
    """Moves every number; the given arrays are used up, as in a real update."""
    noise = jax.vmap(lambda n: jax.random.normal(jax.random.fold_in(key, n)))(ids).mean()
    move = 1e-3 * (pixels.mean() + noise)
    change = lambda x: x + move.astype(x.dtype) if x.dtype == jnp.float32 else x + 1
    return jax.tree.map(change, state)


class FakeMethod:
    """Learns nothing; keeps a drawn picture of every example of a generation step.

    Attributes:
      seen: ids of every step.
    """

    def __init__(
        self,
        mesh: Mesh | None = None,
        *,
        nonfinite: Sequence[int] = (),
        fails: int | None = None,
        seconds: float = 0.0,
    ):
        """Makes a method that reports numbers which are not finite, or fails, in these steps."""
        self.seen: list[list[int]] = []
        self.mesh = mesh or make_mesh(devices=jax.devices()[:1])
        self._nonfinite, self._fails, self._seconds = nonfinite, fails, seconds

    def init(self, seed: int) -> TrainState:
        """Ones and zeros."""
        factors = lambda: {"layers.q": LoRA(jnp.ones((2, 4, 3)), jnp.zeros((2, 3, 4)), 2.0)}
        number = lambda value: jnp.full((), value, jnp.float32)
        count = lambda value: jnp.full((), value, jnp.int32)
        role = lambda: RoleState(factors(), factors(), {"m": jnp.zeros(3)}, number(0.01))
        return TrainState(
            seed=count(seed),
            step=count(0),
            roles={name: role() for name in ROLES},
            anchor=factors(),
            baseline=number(0),
            entropy_target=number(0.9),
            window=jnp.zeros(8),
            skipped=count(0),
        )

    def step(
        self, state: TrainState, pictures: Sequence[Picture], ids: Sequence[int]
    ) -> tuple[TrainState, Report]:
        """One step; it draws the pictures again, a little brighter."""
        step = int(state.step) + 1
        if step == self._fails:
            raise RuntimeError("the power is gone")
        time.sleep(self._seconds)
        self.seen.append(list(ids))
        pixels = np.stack([np.asarray(picture) for picture in pictures])
        place = Placement(self.mesh)
        batch = place.put((pixels.astype(np.float32) / 255, np.asarray(ids, np.int32)))
        state = learn(state, *batch, jax.random.key(step))
        reward = float("nan") if step in self._nonfinite else float(place.get(state.baseline))
        kind = phase(step)
        drawn = (pixels + np.uint8(step)).astype(np.uint8)
        kept = [Kept(one, float(one.mean())) for one in drawn] if kind == "generation" else []
        rows = [{"question": "what | is it?", "reward": reward}]
        metrics = {"reward/solver": reward, "check/well_formed": float(step)}
        return state, Report(kind, metrics, rows, {"drawn": drawn[0]}, kept)


class FakeJudge:
    """Finds more right the more steps were taken.

    Attributes:
      steps: of the states that were judged; None is the frozen model.
      asked: questions at each time.
    """

    def __init__(self) -> None:
        self.steps: list[int | None] = []
        self.asked: list[int] = []

    def __call__(
        self, state: TrainState | None, settings: EvalSettings, headroom: bool = True
    ) -> Judgement:
        """See `asg_jax.train.evolve.judging.Judge`."""
        step = None if state is None else int(state.step)
        self.steps.append(step)
        self.asked.append(settings.questions)
        return Judgement(
            fake_scores(0.5 if step is None else 0.8, settings.questions, settings.prompts),
            np.zeros((settings.prompts, 32, 32, 3), np.uint8),
            seconds=1.0,
        )


def fake_scores(share: float, questions: int, prompts: int) -> Scores:
    """Scores with about that share right, and more right wherever the share is larger."""
    draw = lambda count, stream: np.random.default_rng(stream).random(count) < share
    of = lambda values, count: tuple(values[n % len(values)] for n in range(count))

    def outcomes(count: int, labels: dict, measures: tuple[str, ...]) -> Outcomes:
        right = {name: draw(count, n)[None] for n, name in enumerate(measures)}
        clear = {name: np.ones((1, count), bool) for name in measures}
        named = {label: of(values, count) for label, values in labels.items()}
        return Outcomes(0, np.arange(count), named, right, clear)

    either = ("trained", "held out")
    answers = {"kind": KINDS, "wording": ("seen", "unseen"), "combination": either}
    drawn = {"category": tuple(CATEGORIES), "combination": either}
    return Scores(
        {
            "understanding": outcomes(questions, answers, ("greedy", "sampled", "ensemble")),
            "generation": outcomes(prompts, drawn, ("drawn",)),
        }
    )


def make_parts(method: FakeMethod, judge: FakeJudge | None = None) -> Parts:
    """The parts of a run without a model."""
    return Parts(method, method.mesh, Noise(), judge=judge, export=lambda state, folder: None)


def run(
    folder: Path,
    method: FakeMethod,
    config: RunConfig = CONFIG,
    interruption: Interruption | None = None,
) -> tuple[TrainState, History]:
    """Trains in a folder."""
    folder.mkdir(exist_ok=True)
    logs = Logs(folder, config.steps)
    try:
        return train(make_parts(method), config, folder, logs, interruption or Interruption())
    finally:
        logs.close()
