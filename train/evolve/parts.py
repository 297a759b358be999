"""The parts of a run that its config names: model, method, pictures, judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
from jax.sharding import Mesh

from asg_jax.errors import UserError
from asg_jax.methods.asg import Asg
from asg_jax.methods.base import Method, TrainState
from asg_jax.models.registry import Model, open_model
from asg_jax.prompts import LANGUAGES
from asg_jax.train.data.loading import Source
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.feed import open_source
from asg_jax.train.evolve.judging import Judge, judge
from asg_jax.train.evolve.learned import export
from asg_jax.train.evolve.placement import Placement, whole
from asg_jax.train.evolve.processes import leads
from asg_jax.train.mesh import make_mesh, parallelize

JUDGED = "scenes"  # the language in which the exact judges ask


@dataclass(frozen=True)
class Parts:
    """What a run works with.

    Attributes:
      method: takes the steps.
      mesh: that it takes them on.
      source: of unlabeled pictures.
      judge: of a state; None where the language has no judge, and in processes but the first.
      export: writes what the roles have learned into a folder.
    """

    method: Method
    mesh: Mesh
    source: Source
    judge: Judge | None
    export: Callable[[TrainState, Path], None]


def assemble(config: RunConfig) -> Parts:
    """Opens everything that a config names.

    Raises:
      UserError: something is not there, or does not fit the rest.
    """
    language = LANGUAGES.get(config.language)
    if language is None:
        known = ", ".join(LANGUAGES)
        raise UserError(
            f"there is no language '{config.language}'; config.language is one of {known}."
        )
    mesh = make_mesh(config.mesh.fsdp, config.mesh.tensor)
    model = open_model(config.model, config.dtype or None, mesh)
    method = Asg(
        model.family.remat(model.backbone, config.remat),
        model.base,
        model.processor,
        model.family.roles,
        language,
        config.method,
        pictures=config.batch.understanding,
        placement=Placement(mesh),
        parallelize=partial(parallelize, mesh=mesh, style=config.mesh.rollouts),
    )
    return Parts(
        method=method,
        mesh=mesh,
        source=open_source(config.data),
        judge=_judge(model) if config.language == JUDGED else None,
        export=partial(export, model, config.model),
    )


def _judge(model: Model) -> Judge | None:
    """A judge that works on one device, so that nothing depends on the mesh."""
    base = whole(model.base)
    return partial(judge, model, jax.device_put(base, jax.local_devices()[0])) if leads() else None
