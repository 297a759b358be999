"""A unified multimodal model as the engine works with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asg_jax.adapters import LoRASpec
from asg_jax.backbone import Backbone, Processor, PyTree


@dataclass(frozen=True, eq=False)
class UnifiedModel:
    """A backbone with its parameters.

    Attributes:
      backbone: pure functions of parameters.
      base: parameters, which stay as they are.
      processor: texts and pictures to arrays and back.
      modules: what each role adapts, by name; a role may be told to take another entry.
    """

    backbone: Backbone
    base: PyTree
    processor: Processor
    modules: Mapping[str, Sequence[LoRASpec]]
