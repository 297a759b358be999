"""Pre-training from random weights to an official folder.

First the stages of the model's family, which learn from pictures, then texts and drawing at once.
"""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax
from jaxtyping import Array

from asg_jax.backbone import Backbone, Params, Processor, PyTree
from asg_jax.errors import UserError
from asg_jax.models.config_files import read_object
from asg_jax.models.places import check_new, new_folder, write_file
from asg_jax.models.registry import Family, Pictures, Stage, small_family
from asg_jax.train.data.grammar import vocabulary
from asg_jax.train.evolve.lock import locked
from asg_jax.train.pretrain.facts import FACTS
from asg_jax.train.pretrain.lessons import Lessons, lessons, pictures
from asg_jax.train.pretrain.losses import drawing_loss, text_loss
from asg_jax.train.pretrain.optimizer import optimizer, two_rates
from asg_jax.train.pretrain.phase import Phase, run_phase
from asg_jax.train.pretrain.settings import LANES, Course, PretrainSettings

STORED = "bfloat16"  # of the weights in the exported folder
HELPER = "helper"  # name of the parameters that only a stage's loss needs


def pretrain(settings: PretrainSettings, workdir: Path) -> Path:
    """Pre-trains a model, or goes on where an earlier run in the same folder was stopped.

    Args:
      settings: the run's.
      workdir: takes checkpoints, the log and, in its sub-folder `model`, the result.

    Returns:
      The folder of the result, in the official layout of the model's family.

    Raises:
      UserError: the size is unknown, the folder belongs to a run with other settings or to
        something else, or another process works in it.
    """
    family = small_family(settings.size)
    _claim(workdir, settings)
    with locked(workdir):
        return _run(settings, workdir, family)


def _run(settings: PretrainSettings, workdir: Path, family: Family) -> Path:
    folder, start, begin = workdir / "model", workdir / "start", time.monotonic()
    if folder.exists():  # it appears when it is whole
        return folder
    start.mkdir(exist_ok=True)
    family.create(settings.size, start, vocabulary())
    backbone, processor = family.open(start, "float32")
    backbone = family.complete(backbone)
    base, frozen = jax.jit(backbone.init_base)(jax.random.key(settings.seed)), {}
    for stage in family.stages:
        trained = {stage.part: base.pop(stage.part), HELPER: helper(settings, stage, backbone)}
        phase = stage_phase(settings, stage, backbone)
        learned = run_phase(phase, trained, base | frozen, workdir)
        frozen[stage.part] = learned[stage.part]
    base = run_phase(joint_phase(settings, family, backbone, processor), base, frozen, workdir)
    cast = lambda leaf, like: leaf.astype(like.dtype)
    stored = jax.tree.map(cast, base | frozen, backbone.abstract_base(STORED))
    facts = {"settings": asdict(settings), "seconds": round(time.monotonic() - begin)}
    with new_folder(folder) as part:
        family.export(part, backbone, stored, start)
        write_file(part / "pretraining.json", (json.dumps(facts, indent=1) + "\n").encode())
    return folder


def helper(settings: PretrainSettings, stage: Stage, backbone: Backbone) -> PyTree:
    """The parameters that a stage learns beside those of the model."""
    key = jax.random.fold_in(jax.random.key(settings.seed), zlib.crc32(HELPER.encode()))
    return stage.helper(backbone, FACTS, key) if stage.helper else {}


def stage_phase(settings: PretrainSettings, stage: Stage, backbone: Backbone) -> Phase:
    """Learns one part from pictures, the others as they are."""
    course: Course = getattr(settings, stage.name)

    def loss(trained: PyTree, rest: PyTree, batch: Pictures, key: Array):
        base = rest | {stage.part: trained[stage.part]}
        value = stage.loss(backbone, base, batch, key, course.strength, trained[HELPER])
        return value, {stage.name: value}

    return Phase(
        name=stage.name,
        steps=course.steps,
        seed=settings.seed,
        batch=partial(pictures, settings, course.batch),
        loss=loss,
        optimizer=optimizer(course.rate, course.steps, settings.warmup),
        checkpoint_every=settings.checkpoint_every,
    )


def joint_phase(
    settings: PretrainSettings, family: Family, backbone: Backbone, processor: Processor
) -> Phase:
    """Learns all texts and to draw, with the parts of the stages as they are."""

    def loss(trained: PyTree, rest: PyTree, batch: Lessons, key: Array):
        params = Params(trained | rest)
        parts: dict[str, Array] = {
            "+".join(task for task, _ in lane.tasks): text_loss(backbone, params, lesson)
            for lane, lesson in zip(LANES, batch.texts, strict=True)
        }
        drawing = drawing_loss(backbone, params, batch.drawing, key, settings.draws, settings.shift)
        return sum(parts.values()) + settings.drawing * drawing, parts | {"drawing": drawing}

    rule = lambda rate: optimizer(rate, settings.steps, settings.warmup)
    return Phase(
        name="joint",
        steps=settings.steps,
        seed=settings.seed,
        batch=lambda n: lessons(settings, processor, n),
        loss=loss,
        optimizer=two_rates(rule(settings.rate), rule(settings.drawing_rate), family.draws),
        checkpoint_every=settings.checkpoint_every,
    )


def _claim(workdir: Path, settings: PretrainSettings) -> None:
    """Marks a folder as this run's, or finds that it is."""
    workdir.mkdir(parents=True, exist_ok=True)
    mine, file = json.loads(json.dumps(asdict(settings))), workdir / "settings.json"
    if not file.exists():
        check_new(workdir)
        write_file(file, (json.dumps(mine, indent=1) + "\n").encode())
        return
    other = read_object(file, "the folder holds no run")
    changed = [name for name in mine if mine[name] != other.get(name)]
    if changed:
        raise UserError(
            f"{workdir} holds a run with another value of {', '.join(changed)}; choose another "
            "--workdir or remove it."
        )
