"""A run without a model: pictures of noise, and a method that moves numbers deterministically."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from PIL.Image import Image as Picture

from asg_jax.backbone import LoRA
from asg_jax.engine.method import Examples, Kept, Phase, Preset, Report, phase_of
from asg_jax.engine.state import RoleState, TrainState
from asg_jax.train.data.loading import Example
from asg_jax.train.data.questions import KINDS
from asg_jax.train.evaluate.outcomes import Outcomes
from asg_jax.train.evaluate.prompts import CATEGORIES
from asg_jax.train.evaluate.scores import Scores
from asg_jax.train.evaluate.settings import EvalSettings
from asg_jax.train.evolve.config import Batch, Replaying, RunConfig, Saving
from asg_jax.train.evolve.history import History
from asg_jax.train.evolve.interruption import Interruption
from asg_jax.train.evolve.judging import Judgement
from asg_jax.train.evolve.logs import Logs
from asg_jax.train.evolve.loop import train
from asg_jax.train.evolve.parts import Parts
from asg_jax.train.evolve.rehearsal import Rehearsable
from asg_jax.train.mesh import make_mesh

ROLES = ("proposer", "solver", "generator")
RULES = ((r"layers\.q\.kernel", ("fsdp", "tensor")),)


@dataclass(frozen=True)
class FakeSettings:
    """What the method could be told."""

    name: Literal["fake"] = "fake"
    understanding_steps: int = 3
    generation_steps: int = 2
    rate: float = 1e-3
    weights: Mapping[str, float] = field(default_factory=lambda: {"vote": 1.0, "ste": 0.5})


def two_stage(settings: FakeSettings, steps: int) -> FakeSettings:
    """All understanding steps first."""
    first = steps * settings.understanding_steps // 5
    return FakeSettings(understanding_steps=first, generation_steps=steps - first)


PRESET = Preset(
    FakeSettings,
    make=lambda **parts: FakeMethod(parts["placement"]),
    ablations={"no_ste": {"weights.ste": 0.0}, "slow": {"rate": 1e-4}, "two_stage": two_stage},
)
CONFIG = RunConfig(
    name="fake",
    model="none",
    language="none",
    method=FakeSettings(),
    seed=3,
    steps=23,
    batch=Batch(understanding=4, generation=2),
    replay=Replaying(size=3, share=0.5),
    checkpoint=Saving(every=4, keep=2),
    eval=EvalSettings(),
)


class Noise:
    """Small pictures of noise, by number.

    Attributes:
      sizes: how many different ones they have.
      gone: whether none can be read any more.
      fingerprint: tells them from others.
    """

    def __init__(self, sizes: int = 1):
        self.sizes, self.gone = sizes, False
        self.fingerprint = f"40 pictures, {sizes}"

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: SupportsIndex) -> Example | None:
        number = index.__index__()
        size = (8 + number % self.sizes, 8 + 2 * (number % self.sizes), 3)
        pixels = np.random.default_rng(number).integers(0, 255, size, np.uint8)
        return None if self.gone else Example(number, Image.fromarray(pixels))


def rate(adapter: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """What a rollout would: a number for every example, of the parameters and its randomness."""
    pixels, stream = batch
    key = lambda row: jax.random.fold_in(jax.random.fold_in(jax.random.key(row[0]), row[1]), row[2])
    noise = jax.vmap(lambda row: jax.random.normal(key(row)))(stream)
    return pixels.mean((1, 2, 3)) + noise + adapter["layers.q"].a.mean()


def learn(speed: jax.Array, state: TrainState, rated: jax.Array) -> tuple[TrainState, Any, Any]:
    """Moves every number."""
    move = speed * rated.mean()
    change = lambda x: x + move.astype(x.dtype) if x.dtype == jnp.float32 else x + 1
    new = jax.tree.map(change, state)
    return new, {"baseline": new.memory["baseline"]}, rated


class FakeMethod:
    """Learns nothing; keeps a drawn picture of every example of a generation step.

    Attributes:
      seen: ids of every step.
      told: steps, and -steps where their reports were read, in the order in which that happened.
    """

    roles = ROLES
    phases = (
        Phase("understanding", 3, "understanding", replays=True),
        Phase("generation", 2, "generation"),
    )

    def __init__(
        self,
        placement: Rehearsable | None = None,
        *,
        nonfinite: Sequence[int] = (),
        fails: int | None = None,
        seconds: float = 0.0,
    ):
        """Makes a method that reports numbers which are not finite, or fails, in these steps."""
        self.seen: list[list[int]] = []
        self.told: list[int] = []
        self.placement = placement or Rehearsable(make_mesh(devices=jax.devices()[:1]))
        self._rate = self.placement.compile(rate)
        self._learn = self.placement.compile_update(learn)
        self._nonfinite, self._fails, self._seconds = nonfinite, fails, seconds

    def init(self, seed: int) -> TrainState:
        """Ones and zeros."""
        factors = lambda: {"layers.q": LoRA(jnp.ones((2, 4, 3)), jnp.zeros((2, 3, 4)), 2.0)}
        number = lambda value: jnp.full((), value, jnp.float32)
        count = lambda value: jnp.full((), value, jnp.int32)
        role = lambda average: RoleState(factors(), average, {"mu": factors()}, number(0.01))
        return TrainState(
            seed=count(seed),
            step=count(0),
            roles={name: role(factors() if name == "solver" else None) for name in ROLES},
            skipped=count(0),
            memory={"baseline": number(0), "window": jnp.zeros(8)},
        )

    def prepare(self, pictures: Sequence[Picture]) -> Any:
        """Pictures on a canvas of the largest of them."""
        arrays = [np.asarray(picture) for picture in pictures]
        height, width = np.max([array.shape[:2] for array in arrays], axis=0)
        canvas = np.zeros((len(arrays), height, width, 3), np.uint8)
        for place, array in zip(canvas, arrays, strict=True):
            place[: array.shape[0], : array.shape[1]] = array
        return {"pixels": canvas}

    def step(
        self, state: TrainState, examples: Examples
    ) -> tuple[TrainState, Callable[[], Report]]:
        """One step; it draws the pictures again, a little brighter."""
        step = int(state.step) + 1
        if step == self._fails:
            raise RuntimeError("the power is gone")
        time.sleep(self._seconds)
        self.seen.append(list(examples.ids))
        self.told.append(step)
        pixels = examples.request["pixels"]  # type: ignore[index]
        stream = np.array([[step, *of] for of in zip(examples.ids, examples.rows, strict=True)])
        batch = self.placement.put((pixels.astype(np.float32) / 255, stream.astype(np.int32)))
        rated = self._rate(state.roles["solver"].adapter, batch)
        state, metrics, _ = self._learn(jnp.float32(1e-3), state, rated)
        return state, lambda: self._report(step, pixels, metrics)

    def _report(self, step: int, pixels: np.ndarray, metrics: Any) -> Report:
        self.told.append(-step)
        found = float(self.placement.get(metrics["baseline"]))
        reward = float("nan") if step in self._nonfinite else found
        kind = phase_of(step, self.phases).name
        drawn = (pixels + np.uint8(step)).astype(np.uint8)
        kept = [Kept(one, float(one.mean())) for one in drawn] if kind == "generation" else []
        rows = [{"question": "what | is it?", "reward": reward}]
        told = {"reward/solver": reward, "check/well_formed": float(step)}
        return Report(kind, told, rows, {"drawn": drawn[0]}, kept)


class FakeJudge:
    """Finds more right the more steps were taken.

    Attributes:
      steps: numbers of the steps whose states were judged; None is the frozen model.
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


def make_parts(
    method: FakeMethod, judge: FakeJudge | None = None, source: Noise | None = None
) -> Parts:
    """The parts of a run without a model."""
    nothing = lambda state, folder: None
    source = source or Noise()
    facts = {"pictures": source.fingerprint}
    return Parts(method, method.placement, source, judge=judge, facts=facts, export=nothing)


def run(
    folder: Path,
    method: FakeMethod,
    config: RunConfig = CONFIG,
    interruption: Interruption | None = None,
    source: Noise | None = None,
) -> tuple[TrainState, History]:
    """Trains in a folder."""
    folder.mkdir(exist_ok=True)
    logs, parts = Logs(folder, config.steps), make_parts(method, source=source)
    try:
        return train(parts, config, folder, logs, interruption or Interruption())
    finally:
        logs.close()
