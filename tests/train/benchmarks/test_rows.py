"""Rows of the language model: room, those that ran, real ones, and those of prompts seen before."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from asg_jax.backbone import Params, Prompt, Prompts, Request
from asg_jax.engine.programs import Talk
from asg_jax.rollout.text import Texts
from asg_jax.train.benchmarks.rows import Rows, count_rows
from asg_jax.train.evolve.rehearsal import Played
from tests.tiny import spoken

B, G = 2, 3
MASK = jnp.arange(8) < 5  # of a prompt
INTS = jnp.zeros((B, 8), jnp.int32)
PROMPT = Prompt(INTS, INTS - 1, INTS[..., None], INTS, jnp.broadcast_to(MASK, (B, 8)))
TOLD = Texts(jnp.zeros((B, G, 4), jnp.int32), jnp.broadcast_to(jnp.arange(4) < 2, (B, G, 4)))


def played(params, prompt=PROMPT):
    """Three texts on each of two pictures, of 6 tokens of which 3 were drawn, and 2 of the last."""
    ids = np.full((B, G, 6), -1)
    ids[..., :3], ids[:, -1, 2] = 1, -1
    rollout = replace(spoken(ids), steps=jnp.full((B, G), 2))
    talk = Talk(Request(Prompts(prompt)), TOLD, jnp.ones((B, G)), jnp.zeros((B, 5), jnp.uint32))
    lower: Any = None  # nobody asks for it
    return Played("understanding", "continue_texts 3 x 6", 1.0, lower, (params, talk), rollout)


def test_rows_are_counted():
    (rows,) = count_rows([played(Params({}))])
    room = B * 8 + B * G * 4 + B * G * 6
    done = B * 8 + B * G * 4 + B * G * 3  # the loop ended when all texts had
    real = B * 5 + B * G * 2 + B * (3 + 3 + 2)
    assert rows == Rows(room, done, real, 0)


def test_a_prompt_that_the_same_parameters_saw_is_counted():
    other = replace(PROMPT, ids=INTS + 1)
    frozen, adapted = Params({}), Params({}, {"q": jnp.ones(2)})  # type: ignore[dict-item]
    steps = [played(frozen), played(frozen), played(adapted), played(frozen, other)]
    assert [rows.again for rows in count_rows(steps)] == [0, B * 5, 0, 0]
    assert [rows.again for rows in count_rows(steps[:1])] == [0]  # another step begins anew
