"""Token-forwards: what a drawing and an update cost."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from asg_jax.backbone import Sampler
from asg_jax.engine.spending import drawing_update, evaluations, rows, text_tokens, text_update
from asg_jax.objectives.drawings import NFT, BitsGRPO, DrawingDPO, FlowGRPO
from asg_jax.objectives.painter import DrawingLesson
from asg_jax.objectives.texts import Said, TextLesson
from asg_jax.rollout.image import Drawings
from asg_jax.rollout.text import Texts
from asg_jax.testing import toy

SAMPLER = Sampler(toy.GRID, steps=10, shift=1.0, guidance=1.0)
NOTHING: Any = None


def texts(*shape: int) -> Texts:
    return Texts(jnp.zeros(shape, int), jnp.ones(shape, bool))


def test_guidance_costs_a_second_evaluation_where_it_acts() -> None:
    assert evaluations(SAMPLER, "flow") == 10
    assert evaluations(replace(SAMPLER, guidance=3.0, interval=(0.0, 1.0)), "flow") == 20
    assert evaluations(replace(SAMPLER, guidance=3.0, interval=(0.45, 1.0)), "flow") == 16
    assert evaluations(replace(SAMPLER, guidance=3.0), "bits") == 2


def test_texts_count_with_their_room() -> None:
    assert text_tokens(texts(2, 3, 4), 5) == 24 + 30
    assert rows(toy.request(2, length=3)) == 6


def test_an_update_is_four_forwards_of_what_it_looks_at() -> None:
    rollout: Any = texts(2, 3, 4)
    said = Said(toy.request(2), texts(2, 3, 1), rollout)
    assert text_update(TextLesson(said, NOTHING, NOTHING)) == 4 * (6 + 6 + 24)
    drawn = Drawings(jnp.zeros((2, 3, 6, 5)), NOTHING, NOTHING, NOTHING)
    lesson = DrawingLesson(toy.request(2), drawn, NOTHING, NOTHING, NOTHING)
    cost = lambda objective: drawing_update(lesson, objective, SAMPLER, "flow")
    assert cost(DrawingDPO(draws=2)) == 4 * (6 + 2 * 36)
    assert cost(NFT(draws=2)) == 5 * (6 + 2 * 36)  # and the older policy
    for objective in (BitsGRPO(), DrawingDPO(draws=2)):  # bits are scored once, or with guidance
        assert drawing_update(lesson, objective, SAMPLER, "bits") == 4 * (6 + 36)
        guided = replace(SAMPLER, guidance=3.0)
        assert drawing_update(lesson, objective, guided, "bits") == 4 * (6 + 2 * 36)
    assert cost(FlowGRPO()) == cost(DrawingDPO(likelihood="steps")) == 4 * (6 + 9 * 36)
