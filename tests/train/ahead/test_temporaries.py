"""With one picture at a time, an update needs hardly more memory for many of them.

A single one takes no loop, and no sum of gradients, which is as large as the factors of a role.
"""

from dataclasses import replace

import jax
import pytest

from asg_jax.engine.model import UnifiedModel
from asg_jax.methods.asg import Asg
from asg_jax.models.layers.backbone import recomputing
from asg_jax.train.evolve.config import Batch
from asg_jax.train.evolve.rehearsal import Rehearsable
from asg_jax.train.mesh import make_mesh
from tests.tiny import BABBLE, bits_long, fitting, flows, model, pictures
from tests.train.evolve.fake import CONFIG

__all__ = ["model"]
pytestmark = pytest.mark.slow


def temporaries(model, count):
    """Bytes of the temporaries of the updates of both phases, on batches of so many pictures."""
    placement = Rehearsable(make_mesh(devices=jax.devices()[:1]))
    backbone = recomputing(model.backbone, "full")
    method = Asg(
        UnifiedModel(backbone, model.base, model.processor, model.family.roles),
        BABBLE,
        fitting(model),
        {"understanding": count, "generation": count},
        placement,
        micro=1,
    )
    config, found = replace(CONFIG, batch=Batch(count, count, micro=1)), {}

    def meet(visit):
        if visit.name == "learn":
            memory = visit.lowered.compile().memory_analysis()
            found[visit.phase] = memory.temp_size_in_bytes

    placement.rehearse(method, config, pictures()[0], meet)
    return found


@bits_long
def test_temporaries_do_not_grow_with_the_batch(model):
    few, many = temporaries(model, 2), temporaries(model, 16)
    for phase in ("understanding", "generation"):
        assert many[phase] < 1.02 * few[phase], phase


@pytest.mark.long
@flows
def test_not_even_from_a_single_picture_on(model):
    one, many = temporaries(model, 1), temporaries(model, 16)
    for phase in ("understanding", "generation"):
        assert many[phase] < 1.1 * one[phase], phase
