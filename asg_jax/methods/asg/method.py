"""Ask, Solve, Generate as programs meet it: a state, and steps of either loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL.Image import Image as Picture

from asg_jax.backbone import Request
from asg_jax.engine.engine import Engine
from asg_jax.engine.method import Examples, Phase, Report, phase_of
from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.placement import Placement
from asg_jax.engine.state import TrainState
from asg_jax.methods.asg.generation.host import GenerationStep
from asg_jax.methods.asg.settings import Memory, Settings, check
from asg_jax.methods.asg.understanding.host import UnderstandingStep
from asg_jax.prompts.language import Language
from asg_jax.signals.difficulty import empty_window, window_size
from asg_jax.signals.table import Signal


class Asg:
    """Ask, Solve, Generate (arXiv 2606.27376); implements `engine.method.Method` and `Scorer`.

    Attributes:
      settings: every number of it.
      engine: the model at work.
      loops: what takes the steps, by phase.
    """

    def __init__(
        self,
        model: UnifiedModel,
        language: Language,
        settings: Settings,
        sizes: Mapping[str, int],
        placement: Placement,
        micro: int | None = None,
    ):
        """Makes the method ready; programs are compiled when they first run.

        Args:
          model: what is improved.
          language: what prompts and answers are in.
          settings: every number of the method.
          sizes: pictures of an `understanding` and of a `generation` step, of all processes.
          placement: how batches lie on devices.
          micro: examples that each device takes at a time; None is all.

        Raises:
          UserError: the settings do not fit each other, the backbone or its modules.
        """
        check(settings, model.backbone.spec.kind)
        self.settings, self._sizes = settings, sizes
        self.engine = Engine(model, language, settings.lengths, placement, micro)
        self.engine.modules(settings.roles)  # refuses what the model does not have
        self._generation = GenerationStep(self.engine, settings)
        self.loops = {
            "understanding": UnderstandingStep(self.engine, settings),
            "generation": self._generation,
        }

    @property
    def roles(self) -> Sequence[str]:
        """See `asg_jax.engine.method.Method`."""
        return tuple(self.settings.roles)

    @property
    def phases(self) -> Sequence[Phase]:
        """See `asg_jax.engine.method.Method`."""
        steps = self.settings.understanding_steps, self.settings.generation_steps
        return (
            Phase("understanding", steps[0], "understanding", replays=True),
            Phase("generation", steps[1], "generation"),
        )

    def init(self, seed: int) -> TrainState:
        """See `asg_jax.engine.method.Method`."""
        return jax.jit(self._init)(np.uint32(seed))  # a plain int would be taken for an int32

    def _init(self, seed: np.uint32) -> TrainState:
        settings = self.settings
        size = settings.difficulty.window
        size = size or window_size(self._sizes["understanding"], settings.candidates)
        memory = Memory(
            baseline=jnp.float32(0),
            entropy_target=jnp.float32(settings.numbers.consistency.target_start),
            window=empty_window(size).astype(jnp.float32),  # not a weak type, as it will be later
            vote_gain=jnp.float32(0),
            anchor=None,
        )
        state = self.engine.start(seed, settings.optimizer, settings.roles, memory)
        if not settings.generator.objective.anchored:
            return state
        anchor = jax.tree.map(jnp.copy, state.roles["generator"].adapter)
        return replace(state, memory=replace(memory, anchor=anchor))

    def prepare(self, pictures: Sequence[Picture]) -> Request:
        """See `asg_jax.engine.method.Method`."""
        return self.engine.prepare(pictures)

    def step(
        self, state: TrainState, examples: Examples
    ) -> tuple[TrainState, Callable[[], Report]]:
        """See `asg_jax.engine.method.Method`."""
        loop = self.loops[phase_of(examples.step, self.phases).name]
        return loop.step(state, self.engine.moment(examples))

    def score(
        self,
        state: TrainState,
        examples: Examples,
        texts: Sequence[str],
        pictures: UInt8[np.ndarray, "B L H W 3"],
        signals: Mapping[str, Signal],
    ) -> dict[str, Float[np.ndarray, "B L"]]:
        """See `asg_jax.engine.method.Scorer`."""
        compared = any(signal.compares for signal in signals.values())
        moment = (self.engine.moment if compared else self.engine.blank)(examples)
        return self._generation.score(state, moment, texts, pictures, signals)
