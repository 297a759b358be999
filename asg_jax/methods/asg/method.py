"""The method as the programs meet it: a state, and steps of either loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
from PIL.Image import Image as Picture

from asg_jax.adapters import LoRASpec, init_roles
from asg_jax.backbone import Backbone, Processor, PyTree
from asg_jax.errors import UserError
from asg_jax.methods.asg import updates
from asg_jax.methods.asg.drawing import GenerationStep
from asg_jax.methods.asg.kit import Kit, Moment, Parallelize
from asg_jax.methods.asg.questioning import UnderstandingStep
from asg_jax.methods.asg.settings import ROLES, Settings, check
from asg_jax.methods.base import OneDevice, Placement, Report, TrainState
from asg_jax.objectives.schedule import phase
from asg_jax.prompts.language import Language
from asg_jax.signals.difficulty import empty_window, window_size


class Asg:
    """Ask, Solve, Generate (arXiv 2606.27376); implements `asg_jax.methods.base.Method`.

    Attributes:
      settings: every number of it.
      kit: the model and its programs.
      loops: what takes the steps, by phase.
    """

    def __init__(
        self,
        backbone: Backbone,
        base: PyTree,
        processor: Processor,
        modules: Mapping[str, Sequence[LoRASpec]],
        language: Language,
        settings: Settings,
        *,
        pictures: int,
        placement: Placement | None = None,
        parallelize: Parallelize = jax.jit,
    ):
        """Makes the method ready; programs are compiled when they first run.

        Args:
          backbone: the model.
          base: its parameters, which stay as they are.
          processor: of the model.
          modules: what each role adapts, by its name; a role may be told to take another entry.
          language: that the model understands.
          settings: every number of the method.
          pictures: in an understanding step, of all processes together.
          placement: of batches on devices; one device by default.
          parallelize: compiles a rollout (parameters, batch) -> out, in which the first axis of
            every array of batch and out counts examples.

        Raises:
          UserError: the settings do not fit each other, the backbone or its modules.
        """
        check(settings, backbone.spec.kind)
        self.settings = settings
        self._modules = {role: _adapted(settings, role, modules) for role in ROLES}
        self._pictures = pictures
        place = placement or OneDevice()
        self.kit = Kit(backbone, base, processor, language, settings, place, parallelize)
        self.loops = {
            "understanding": UnderstandingStep(self.kit),
            "generation": GenerationStep(self.kit),
        }

    def init(self, seed: int) -> TrainState:
        """See `asg_jax.methods.base.Method`."""
        return jax.jit(self._init)(seed)

    def _init(self, seed: Int[Array, ""]) -> TrainState:
        settings, kit = self.settings, self.kit
        adapters = init_roles(jax.random.key(seed), kit.base, self._modules)
        roles = {
            role: updates.start(settings, settings.role(role), adapters[role]) for role in ROLES
        }
        size = settings.window or window_size(self._pictures, settings.candidates)
        return TrainState(
            seed=jnp.asarray(seed, jnp.uint32),
            step=jnp.int32(0),
            roles=roles,
            anchor=jax.tree.map(jnp.copy, adapters["generator"]),
            baseline=jnp.float32(0),
            entropy_target=jnp.float32(0.90),
            window=empty_window(size).astype(jnp.float32),  # not a weak type, as it will be later
            skipped=jnp.int32(0),
        )

    def step(
        self, state: TrainState, pictures: Sequence[Picture], ids: Sequence[int]
    ) -> tuple[TrainState, Report]:
        """See `asg_jax.methods.base.Method`."""
        moment = self.moment(state, pictures, ids)
        cycle = self.settings.understanding_steps, self.settings.generation_steps
        return self.loops[phase(moment.step, *cycle)].step(state, moment)

    def moment(self, state: TrainState, pictures: Sequence[Picture], ids: Sequence[int]) -> Moment:
        """The next step's place in the run, and its pictures on devices."""
        seed, taken = (int(x) for x in self.kit.placement.get((state.seed, state.step)))
        request = self.kit.placement.put(self.kit.scribe.pictures(pictures))
        return Moment(seed, taken + 1, tuple(ids), request)


def _adapted(
    settings: Settings, role: str, modules: Mapping[str, Sequence[LoRASpec]]
) -> list[LoRASpec]:
    """What a role adapts, with the rank and scale of the settings where these say any."""
    chosen = settings.role(role)
    name = chosen.modules or role
    if name not in modules:
        raise UserError(
            f"{role}.modules is '{name}'; this backbone has: {', '.join(sorted(modules))}."
        )
    given = {"rank": chosen.rank, "alpha": chosen.alpha}
    size = {key: value for key, value in given.items() if value is not None}
    return [replace(spec, **size) for spec in modules[name]]
