"""What both loops of the method work with: the model, its roles' voices, compiled programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from asg_jax.backbone import Backbone, Params, Processor, PyTree, Request
from asg_jax.methods.asg import rollouts
from asg_jax.methods.asg.rollouts import Talk, Texts
from asg_jax.methods.asg.scribe import Scribe, streams
from asg_jax.methods.asg.settings import Settings
from asg_jax.methods.asg.updates import Learned, Said
from asg_jax.methods.base import Placement, TrainState
from asg_jax.prompts.language import Language
from asg_jax.rollout.text import TextRollout

Rollout = Callable[[Any, Any], Any]  # (parameters, batch) -> out
Parallelize = Callable[[Rollout], Rollout]


class Learner:
    """Compiles the learning of a step, which takes the memory of the old state for the new one.

    The new state lies on devices as the old one did, and judgements as the examples.
    """

    def __init__(self, learn: Callable[[PyTree, TrainState, Any], Learned]):
        self._learn = learn
        self._compiled: Callable[[PyTree, TrainState, Any], Learned] | None = None

    def __call__(self, base: PyTree, state: TrainState, batch: Any) -> Learned:
        """Learns; `batch.stream` counts examples."""
        if self._compiled is None:
            lies = lambda x: x.sharding if x.committed else None
            shardings = Learned(jax.tree.map(lies, state), cast(Any, None), lies(batch.stream))
            self._compiled = jax.jit(self._learn, donate_argnums=1, out_shardings=shardings)
        return self._compiled(base, state, batch)


@dataclass(frozen=True)
class Moment:
    """When and on what a step works.

    Attributes:
      seed: of the run.
      step: counted from 1.
      ids: of this process's examples.
      request: the examples' pictures, on devices.
    """

    seed: int
    step: int
    ids: tuple[int, ...]
    request: Request

    def stream(self, purpose: int) -> np.ndarray:
        """Where random numbers come from; see `rollouts.keys`."""
        return streams(self.seed, self.step, self.ids, purpose)


@dataclass(frozen=True, eq=False)
class Kit:
    """A model under settings, and programs that are compiled once.

    Attributes:
      backbone: of the model.
      base: its parameters, which stay as they are.
      processor: of the model.
      language: that it understands.
      settings: of the method.
      placement: of batches on devices.
      parallelize: compiles a rollout.
    """

    backbone: Backbone
    base: PyTree
    processor: Processor
    language: Language
    settings: Settings
    placement: Placement
    parallelize: Parallelize

    @cached_property
    def scribe(self) -> Scribe:
        """Reads and writes."""
        return Scribe(self.processor, self.language, self.settings.lengths)

    @cached_property
    def programs(self) -> dict[str, Rollout]:
        """The rollouts, by name; those that speak are called as the text that they end with."""
        backbone, processor, settings = self.backbone, self.processor, self.settings
        lengths, stops = settings.lengths, processor.stop_ids
        likelihood = settings.image_similarity == "likelihood"
        examine = partial(
            rollouts.examine, backbone, processor, lengths.answer, lengths.caption, settings.judge
        )
        programs = {
            name: partial(rollouts.speak, backbone, getattr(lengths, name), stops)
            for name in ("question", "answer", "caption", "spec")
        } | {
            "draw": partial(rollouts.draw, backbone, settings.sampler, settings.images),
            "examine": examine,
            "compare": partial(rollouts.compare, backbone, processor, likelihood),
        }
        return {name: self.parallelize(program) for name, program in programs.items()}

    @cached_property
    def _any(self) -> Callable[[Array], Array]:
        return jax.jit(lambda flags: flags.any())

    def params(self, state: TrainState, role: str) -> Params:
        """The model as a role."""
        return Params(self.base, state.roles[role].adapter)

    def judge(self, state: TrainState) -> Params:
        """The model as the one that describes pictures to draw, answers on them, and judges."""
        live = self.settings.judge == "live"
        return self.params(state, "solver") if live else Params(self.base)

    def speak(
        self,
        params: Params,
        sort: str,
        moment: Moment,
        texts: Texts,
        temperature: float | Float[np.ndarray, " G"],
        purpose: int,
    ) -> Said:
        """Lets a role continue texts about the step's pictures; on devices.

        Args:
          params: of the role.
          sort: of text, see `programs`.
          moment: of the step.
          texts: what the role is told, as NumPy arrays.
          temperature: of sampling.
          purpose: of the random numbers.
        """
        heat = np.broadcast_to(np.float32(temperature), texts.ids.shape[:2])
        texts, heat, stream = self.placement.put((texts, heat, moment.stream(purpose)))
        talk = Talk(moment.request, texts, heat, stream)
        return Said(moment.request, texts, self.programs[sort](params, talk))

    def hear(self, rollout: TextRollout) -> list[list[str]]:
        """The texts of this process's examples."""
        return self.scribe.hear(self.placement.get(rollout))

    def somewhere(self, flags: Bool[np.ndarray, " B"]) -> bool:
        """Whether a flag is set for an example of any process."""
        return bool(self.placement.get(self._any(self.placement.put(flags))))
