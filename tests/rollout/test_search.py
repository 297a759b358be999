"""Hierarchical search on a toy backbone: widths, branches, and what it costs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Sampler
from asg_jax.rollout.search import Plan, branches, calls, sample_axes, search, take, widths
from asg_jax.testing import toy

PARAMS = Params(toy.base(), toy.adapter())
NOISY = Sampler(toy.GRID, steps=8, guidance=1.0, noise_level=0.7)
TOY: Any = toy.Toy()
KEY = jax.random.key(3)


def test_widths_shrink_to_the_survivors():
    assert widths(32, 8, 2, 8, 12) == [16, 8, 8, 8]
    assert branches([32, 16, 8, 8], 8) == [2, 1, 1]
    assert calls(32, 8, 2, 32, 8, 12) == 456


def test_a_plan_explores_first_and_ends_alone():
    assert Plan().stages(32) == (8, 16)
    assert Plan().stages(3) == (1, 2)
    assert Plan(refine=1.0).stages(4) == (1, 4)


@pytest.fixture(scope="module")
def start():
    condition = TOY.condition(PARAMS, toy.request(1).prompts, KEY[None])
    state = TOY.start(PARAMS, condition, jax.random.split(KEY, (1, 4)), NOISY)
    return state, sample_axes(TOY, PARAMS, condition, NOISY)


def test_branches_share_their_past_and_differ_in_what_comes(start):
    state, axes = start
    assert (axes.inner, axes.trace.latents, axes.keys) == (1, 2, 1)
    twice = take(state, axes, jnp.array([2, 2, 0]), KEY)
    np.testing.assert_array_equal(twice.inner[0], state.inner[0, jnp.array([2, 2, 0])])
    assert len(np.unique(jax.random.key_data(twice.keys)[0], axis=0)) == 3


def test_a_search_keeps_the_best_and_counts_what_it_takes():
    """Pictures of the toy are noise under their keys, so that any score tells them apart."""
    asked = []

    def verdict(pixels):
        asked.append(pixels.shape[1])
        return pixels.mean((2, 3, 4))

    plan = Plan(trajectories=8, survivors=2)
    found = search(TOY, PARAMS, toy.request(1), KEY, NOISY, plan, verdict)
    explore, refine = plan.stages(NOISY.steps)
    assert found.evaluations == calls(8, 2, 2.0, NOISY.steps, explore, refine) < 64
    assert asked == [8, 4, 2, 2] and found.verdicts == sum(asked)
    assert found.pixels.shape[0] == 2 and found.scores[0] >= found.scores[1]
    np.testing.assert_allclose(found.pixels.mean((1, 2, 3)), found.scores, rtol=1e-5)
    again = search(TOY, PARAMS, toy.request(1), KEY, NOISY, plan, verdict)
    np.testing.assert_array_equal(found.pixels, again.pixels)
