"""What the texts of a generation step ask for; nothing is drawn or answered."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.engine.engine import Engine, Moment
from asg_jax.engine.method import Examples
from asg_jax.engine.placement import OneDevice
from asg_jax.engine.programs import Inquiry, Replies
from asg_jax.methods.asg.generation.host import GenerationStep
from asg_jax.methods.asg.settings import Temperatures
from asg_jax.prompts import ENGLISH
from tests.methods.asg.generation.letters import LENGTHS, lettered
from tests.tiny import SETTINGS

NOTHING: Any = None
CHOSEN = Temperatures(check=0.7, recaption=0.2)


class Heard(Exception):
    """What would be asked about drawings."""

    def __init__(self, inquiry: Inquiry):
        self.inquiry = inquiry


class Silent(Engine):
    """Tells what it is asked instead of answering."""

    def judge(self, state, kind, role) -> Any:
        return NOTHING

    def viewing(self, pixels, grid, count) -> Any:
        return NOTHING

    def ask_about(self, params, facts, inquiry) -> Replies:
        raise Heard(inquiry)


def test_answers_and_captions_have_temperatures_of_their_own() -> None:
    engine = Silent(lettered(), ENGLISH, LENGTHS, OneDevice())
    step = GenerationStep(engine, replace(SETTINGS, temperatures=CHOSEN, lengths=LENGTHS))
    moment = Moment(Examples(0, 1, (5, 6), (0, 1), NOTHING), NOTHING, NOTHING)
    said = engine.scribe.tell([["a cat"], ["a dog"]])
    pixels = jnp.zeros((2, 3, 8, 8, 3))
    with pytest.raises(Heard) as heard:
        step.look(NOTHING, moment, ["a cat", "a dog"], said, pixels, frozenset({"captions"}))
    inquiry = heard.value.inquiry
    assert np.unique(inquiry.temperature) == np.float32(CHOSEN.check)
    assert np.unique(inquiry.caption_temperature) == np.float32(CHOSEN.recaption)
    assert inquiry.temperature.shape == inquiry.questions.ids.shape[:2]
