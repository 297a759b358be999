"""A model of the golden files, whose protocol functions are compiled once."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax

from asg_jax.backbone import Params, Prompts


@dataclass
class LoadedModel:
    """A backbone with its parameters; `jit(name)` compiles a protocol function."""

    backbone: Any
    params: Params

    @cached_property
    def _compiled(self) -> dict[str, Any]:
        return {}

    def jit(self, name: str, *static: str):
        """A protocol function with the parameters filled in."""
        if name not in self._compiled:
            function = jax.jit(getattr(self.backbone, name), static_argnames=static)
            self._compiled[name] = partial(function, self.params)
        return self._compiled[name]


def row_keys(prompts: Prompts) -> jax.Array:
    """A key for the condition of each prompt."""
    return jax.random.split(jax.random.key(0), len(prompts.main.ids))
