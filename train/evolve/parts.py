"""The parts of a run that its config names: model, method, pictures, judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax

from asg_jax.engine.method import Method
from asg_jax.engine.model import UnifiedModel
from asg_jax.engine.placement import Placement
from asg_jax.engine.state import TrainState
from asg_jax.errors import UserError
from asg_jax.methods import preset
from asg_jax.models.fingerprint import fingerprint
from asg_jax.models.layers.backbone import in_int8, recomputing
from asg_jax.models.registry import Model, open_model
from asg_jax.prompts import LANGUAGES
from asg_jax.prompts.language import Language
from asg_jax.train.data.loading import Source
from asg_jax.train.evolve.config import RunConfig
from asg_jax.train.evolve.feed import open_source
from asg_jax.train.evolve.files import Folder
from asg_jax.train.evolve.judging import Judge, judge
from asg_jax.train.evolve.learned import export
from asg_jax.train.evolve.placement import MeshPlacement, whole
from asg_jax.train.evolve.processes import leads
from asg_jax.train.evolve.rehearsal import Rehearsable
from asg_jax.train.mesh import make_mesh

JUDGED = "scenes"  # the language in which the exact judges ask


@dataclass(frozen=True)
class Parts:
    """What a run works with.

    Attributes:
      method: takes the steps.
      placement: puts states and batches on devices.
      source: gives unlabeled pictures.
      judge: scores a state; None where the language has no judge, and in processes but the first.
      facts: marks of what a run that goes on must find again, by name.
      export: writes what the roles have learned into a folder.
    """

    method: Method
    placement: Rehearsable
    source: Source
    judge: Judge | None
    facts: Mapping[str, str]
    export: Callable[[TrainState, Folder], None]


class Opened(NamedTuple):
    """What a config names, but for its method.

    Attributes:
      model: its parameters lie on the placement's devices.
      placement: puts states and batches on devices.
      source: gives unlabeled pictures.
    """

    model: Model
    placement: Rehearsable
    source: Source


def open_parts(config: RunConfig) -> Opened:
    """Opens model and pictures.

    Raises:
      UserError: something is not there, or does not fit the rest.
    """
    language_of(config)  # before anything is loaded
    mesh = make_mesh(config.mesh.fsdp, config.mesh.tensor)
    check_sizes(config, MeshPlacement(mesh))
    source = open_source(config.data)
    targets = preset(config.method.name).targets
    model = held_as(config, open_model(config.model, config.dtype or None, mesh, targets))
    return Opened(model, Rehearsable(mesh, config.mesh.rollouts, model.family.rules), source)


def held_as(config: RunConfig, model: Model) -> Model:
    """A model, or its shapes, with parameters as the run holds them; those given are used up."""
    return replace(model, base=in_int8(model.base)) if config.quantize == "int8" else model


def assemble(config: RunConfig) -> Parts:
    """Opens everything that a config names; see `open_parts` for errors."""
    model, placement, source = open_parts(config)
    return Parts(
        method=make_method(config, model, placement),
        placement=placement,
        source=source,
        judge=_judge(model) if config.language == JUDGED else None,
        facts={"pictures": source.fingerprint, "model": fingerprint(config.model)},
        export=partial(export, model, config.model),
    )


def check_sizes(config: RunConfig, placement: MeshPlacement) -> None:
    """Makes sure that the devices can share the batches; see `MeshPlacement.check`."""
    placement.check(_sizes(config))


def make_method(config: RunConfig, model: Model, placement: Placement) -> Method:
    """The method of a config.

    Args:
      config: a run's settings.
      model: opened for the placement's mesh.
      placement: puts states and batches on devices.

    Raises:
      UserError: there is no such language, or the settings do not fit the model.
    """
    backbone = recomputing(model.backbone, config.remat)
    return preset(config.method.name).make(
        model=UnifiedModel(backbone, model.base, model.processor, model.family.roles),
        language=language_of(config),
        settings=config.method,
        sizes=_sizes(config),
        placement=placement,
        micro=config.batch.micro,
    )


def _sizes(config: RunConfig) -> dict[str, int]:
    return {"understanding": config.batch.understanding, "generation": config.batch.generation}


def language_of(config: RunConfig) -> Language:
    """The language of a config.

    Raises:
      UserError: there is none of that name.
    """
    language = LANGUAGES.get(config.language)
    if language is None:
        known = ", ".join(LANGUAGES)
        raise UserError(
            f"there is no language '{config.language}'; config.language is one of {known}."
        )
    return language


def _judge(model: Model) -> Judge | None:
    """A judge that works on one device, so that nothing depends on the mesh."""
    base = whole(model.base)
    return partial(judge, model, jax.device_put(base, jax.local_devices()[0])) if leads() else None
