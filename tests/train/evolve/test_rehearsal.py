"""A rehearsal meets the programs that a run then runs, with the shapes that it has."""

from dataclasses import replace

import jax
import pytest

from asg_jax.signals.table import DRAWINGS, weights_of
from asg_jax.train.benchmarks.compilations import Compilations
from asg_jax.train.evolve.config import Batch
from asg_jax.train.evolve.rehearsal import Rehearsable, device_bytes
from asg_jax.train.mesh import make_mesh
from tests.tiny import SETTINGS, bits_long, bits_slowly, flows, make, pictures, take
from tests.train.evolve.fake import CONFIG

B = 4
RUN = replace(CONFIG, batch=Batch(understanding=B, generation=B, micro=1))


@pytest.fixture(scope="module")
def placement(model):
    devices = jax.devices()[:B]
    return Rehearsable(make_mesh(fsdp=2, devices=devices), rules=model.family.rules)


@pytest.fixture(scope="module")
def method(model, placement):
    return make(replace(model, base=placement.place_state(model.base)), placement=placement)


def rehearsed(placement, method):
    visits = []
    placement.rehearse(method, RUN, pictures()[0], visits.append)
    return visits


@bits_slowly
def test_every_program_is_met_in_its_order(placement, method):
    visits = rehearsed(placement, method)
    names = {}
    for visit in visits:
        names.setdefault(visit.phase, []).append(visit.name)
    assert names["understanding"] == [
        "see", "continue_texts 2 x 10", "continue_texts 8 x 3", "learn",
    ]  # fmt: skip
    assert names["generation"][:3] == ["see", "continue_texts 1 x 8", "draw"]
    assert names["generation"][-3:] == ["ask_about", "compare", "learn"]
    assert visits[0].lowered is visits[4].lowered  # of equal batches
    held = [visit.held for visit in visits if visit.phase == "generation"]
    assert held == sorted(held) and held[0] > 0


@flows
def test_so_is_what_a_judge_says_with_yes_or_no(model, placement):
    settings = replace(SETTINGS, weights=weights_of(DRAWINGS, p_yes=1.0))
    asg = make(replace(model, base=placement.place_state(model.base)), settings, placement)
    assert "ask_apart" in [visit.name for visit in rehearsed(placement, asg)]


def test_a_state_is_told_as_it_will_lie(placement, method):
    told = placement.state(method, RUN)
    state = placement.place_state(method.init(RUN.seed))
    same = lambda leaf, like: leaf.shape == like.shape and leaf.sharding == like.sharding
    assert all(jax.tree.leaves(jax.tree.map(same, state, told)))
    on_one = sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(state))
    assert device_bytes(told) == on_one


@bits_long
@pytest.mark.slow
def test_steps_find_what_was_compiled_in_a_rehearsal(placement, method):
    for visit in rehearsed(placement, method):
        visit.lowered.compile()
    state = placement.place_state(method.init(RUN.seed))
    for step in (1, 2):
        with Compilations() as compiled:
            state, report = take(method, state, step, ids=range(B))
        assert compiled.count == 0, report.phase
