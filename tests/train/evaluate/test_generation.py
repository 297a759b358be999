"""The judge of pictures: true ones meet their prompts, and a picture belongs to its prompt."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from asg_jax.backbone import Params, to_uint8
from asg_jax.rollout.image import draw_pictures
from asg_jax.train.data.scenes import render
from asg_jax.train.evaluate.generation import (
    BEST,
    DRAWN,
    draw_all,
    judge_generation,
    judge_pictures,
)
from asg_jax.train.evaluate.prompts import CATEGORIES, STREAM, prompt_set
from asg_jax.train.evaluate.settings import EvalSettings
from tests.train.evaluate.test_prompts import draw

SEED = 12
SETTINGS = EvalSettings(
    seed=SEED, prompts=10, best_of=3, best_of_prompts=5, prompts_per_batch=4, steps=2
)


@pytest.fixture(scope="module")
def prompts():
    return prompt_set(SEED, 300)


@pytest.fixture(scope="module")
def true(prompts):
    rng = np.random.default_rng(SEED)
    return np.stack([render(draw(prompt, rng), rng) for prompt in prompts])


def test_pictures_of_the_prompts_meet_them(prompts, true) -> None:
    outcomes = judge_pictures(prompts, true[None], SEED)
    assert outcomes.right[DRAWN].all() and outcomes.clear[DRAWN].all()
    assert outcomes.labels["category"][:6] == tuple(CATEGORIES)
    texts = [str(prompt) for prompt in prompts]
    same = [[a == b for b in outcomes.clusters] for a in outcomes.clusters]
    assert same == [[a == b for b in texts] for a in texts]
    assert outcomes.clusters.max() + 1 == len(set(texts)) < 300
    held_out = outcomes.labels["combination"].count("held out")
    assert held_out == sum(prompt.held_out for prompt in prompts) > 0


def test_pictures_of_other_prompts_rarely_do_but_can_be_read(prompts, true) -> None:
    outcomes = judge_pictures(prompts, np.roll(true, 1, axis=0)[None], SEED)
    assert outcomes.right[DRAWN].mean() < 0.05 and outcomes.clear[DRAWN].all()
    painted = np.full_like(true, 200)
    painted[..., 1:] = 20
    outcomes = judge_pictures(prompts, painted[None], SEED)
    assert not outcomes.right[DRAWN].any() and not outcomes.clear[DRAWN].any()


def test_the_best_of_several_is_right_if_any_is(prompts, true) -> None:
    wrong = np.full_like(true, 70)
    half = np.arange(300) % 2 == 0
    second = np.where(half[:, None, None, None], true, wrong)
    outcomes = judge_pictures(prompts, np.stack([wrong, second, wrong]), SEED)
    assert not outcomes.right[DRAWN].any()
    np.testing.assert_array_equal(outcomes.right[BEST], half[None])


ALL = np.array([(n, k) for k in range(2) for n in range(10)])


@pytest.fixture(scope="module")
def pictures(model):
    return draw_all(model, Params(model.base), prompt_set(SEED, 10), ALL, SETTINGS)


def close(a, b) -> bool:
    """Equal but for rounding: 8-bit values that differ by at most one, and rarely."""
    difference = np.abs(a.astype(int) - b.astype(int))
    return difference.max() <= 1 and difference.mean() < 0.01


def test_pictures_do_not_depend_on_their_batch(model, pictures) -> None:
    """Twenty pictures leave no padding in batches of 4, and some in batches of 3."""
    threes = replace(SETTINGS, prompts_per_batch=3)
    again = draw_all(model, Params(model.base), prompt_set(SEED, 10), ALL, threes)
    assert close(pictures, again)
    assert not any(close(pictures[n], pictures[m]) for n in range(20) for m in range(n))


def test_some_of_the_pictures_can_be_drawn_again(model, pictures) -> None:
    chosen = [13, 2, 7]
    some = draw_all(model, Params(model.base), prompt_set(SEED, 10), ALL[chosen], SETTINGS)
    assert close(some, pictures[chosen])
    other = replace(SETTINGS, seed=SEED + 1)
    moved = draw_all(model, Params(model.base), prompt_set(SEED, 10), ALL[chosen], other)
    assert not any(close(a, b) for a, b in zip(moved, some, strict=True))


def test_a_picture_is_that_of_its_own_prompt(model, pictures) -> None:
    """Each drawn alone, by the function that the programs draw with."""
    prompts = prompt_set(SEED, 10)
    key = jax.random.fold_in(jax.random.key(SEED), STREAM)
    draw_one = jax.jit(draw_pictures, static_argnums=(0, 4))
    sampler = SETTINGS.sampler(model.backbone.spec)
    longest = max(prompts, key=lambda prompt: len(str(prompt)))
    for n in (1, 5):
        # The longest prompt beside it makes the padding, and so the program, always the same.
        request = model.processor.prompt([[str(prompts[n])], [str(longest)]], "draw")
        own = jax.random.fold_in(jax.random.fold_in(key, n), 1)
        keys = jax.numpy.stack([own, own])[:, None]
        drawn = draw_one(model.backbone, Params(model.base), request, keys, sampler)
        assert close(np.asarray(to_uint8(drawn))[0, 0], pictures[10 + n])


def test_the_judge_measures_headroom_on_request_only(model) -> None:
    few, nothing = judge_generation(model, Params(model.base), SETTINGS, headroom=False)
    many, best = judge_generation(model, Params(model.base), SETTINGS, headroom=True)
    assert nothing is None and best is not None
    assert (len(many.clusters), len(best.clusters)) == (10, 5)
    np.testing.assert_array_equal(few.clear[DRAWN], many.clear[DRAWN])
    np.testing.assert_array_equal(best.clear[DRAWN], many.clear[DRAWN][:, :5])
    assert (best.clear[BEST] >= best.clear[DRAWN]).all()
