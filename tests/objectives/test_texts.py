"""Objectives of texts on a toy model, against the formulas in NumPy."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params
from asg_jax.objectives.kl import k3
from asg_jax.objectives.texts import (
    DPO,
    GRPO,
    Imitation,
    Reinforce,
    Said,
    SimPO,
    TextLesson,
    corrected,
    text_losses,
)
from asg_jax.ops.masked import masked_mean
from asg_jax.rollout.text import TextRollout, Texts, join
from asg_jax.testing import toy

B, G, T, N = 2, 3, 2, 4
BETA = 0.3
BASE, ADAPTER = toy.base(), toy.adapter()
OBJECTIVES = {"grpo": GRPO(), "reinforce": Reinforce(), "imitation": Imitation()}
every = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def lesson() -> TextLesson:
    """Texts of several lengths at several temperatures; one is left out."""
    rng = np.random.default_rng(0)
    ids = lambda length: jnp.asarray(rng.integers(0, toy.V, (B, G, length)))
    upto = lambda counts, length: jnp.arange(length) < jnp.asarray(counts)[..., None]
    number = lambda: jnp.asarray(rng.normal(-2, 0.5, (B, G, N)), jnp.float32)
    temperature = jnp.array([[1.0, 0.7, 1.5], [1.0, 0.5, 1.0]])
    rollout = TextRollout(
        ids(N),
        upto([[4, 2, 3], [1, 4, 4]], N),
        *(number(), number(), number(), temperature, jnp.zeros((B, G), jnp.int32)),
    )
    said = Said(toy.request(B), Texts(ids(T), upto([[2, 0, 1], [2, 2, 1]], T)), rollout)
    kept = jnp.array([[True, True, True], [True, False, True]])
    return TextLesson(said, jnp.array([[1.0, -2.0, 0.5], [0.7, 9.0, -1.0]]), kept)


LESSON = lesson()
TOY: Any = toy.Toy()


@partial(jax.jit, static_argnums=0)
def losses(objective, adapter=ADAPTER, lesson=LESSON, beta=BETA):
    return text_losses(objective, TOY, BASE, adapter, lesson, beta)


@partial(jax.jit, static_argnums=0)
def gradient(objective, lesson=LESSON, beta=BETA):
    """Of the sum of what is kept."""

    def total(adapter):
        found = text_losses(objective, TOY, BASE, adapter, lesson, beta)
        return jnp.where(found.kept, found.values, 0).sum()

    return jax.grad(total)(ADAPTER)


def logits(adapter):
    """Logits of every token that was sampled, in another way: token after token."""
    said, params = LESSON.said, Params(BASE, adapter)
    rows = np.zeros((B, G, N, toy.V), np.float32)
    kernel = np.asarray(toy.Toy().kernel(params, "text"))
    table = np.asarray(BASE["table"])
    joined = join(said.texts, said.rollout.texts)
    for b, g in np.ndindex(B, G):
        prompt = said.request.prompts.main.ids[b].tolist()
        line = prompt[-1:] + np.asarray(joined.ids[b, g])[np.asarray(joined.mask[b, g])].tolist()
        first = int(said.texts.mask[b, g].sum())
        for n in range(int(said.rollout.mask[b, g].sum())):
            rows[b, g, n] = table[line[first + n]] @ kernel @ table.T
    return jnp.asarray(rows)


NOW, FROZEN = logits(ADAPTER), logits(None)
MASK = LESSON.said.rollout.mask & LESSON.kept[..., None]
SCALE = LESSON.said.rollout.temperature[..., None]


def log_probs(rows):
    rows = jax.nn.log_softmax(rows / SCALE[..., None])
    return jnp.take_along_axis(rows, LESSON.said.rollout.ids[..., None], axis=-1)[..., 0]


LOG_PROBS, REFERENCE = log_probs(NOW), log_probs(FROZEN)
SAMPLED = LESSON.said.rollout.log_probs
PLAIN, PLAIN_FROZEN = jax.nn.log_softmax(NOW), jax.nn.log_softmax(FROZEN)
KL = (jnp.exp(PLAIN) * (PLAIN - PLAIN_FROZEN)).sum(-1)
of_texts = lambda x: masked_mean(x, MASK, axis=-1)
close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5)


def test_grpo_is_the_advantage_and_the_k3_penalty():
    """The ratio is 1, whatever the sampler's log-probs were."""
    found = losses(GRPO())
    close(found.values, of_texts(BETA * k3(LOG_PROBS, REFERENCE) - LESSON.advantages[..., None]))


def test_the_others_are_the_log_prob_and_the_exact_penalty():
    gain = LESSON.advantages[..., None] * LOG_PROBS
    close(losses(Reinforce()).values, of_texts(BETA * KL - gain))
    close(losses(Imitation()).values, of_texts(BETA * KL - LOG_PROBS))


def preferred(scores, gamma=0.0):
    """Of the first two examples' texts, those with a positive advantage against the others."""
    loss = lambda b, good, bad: np.log1p(np.exp(gamma - scores[b, good] + scores[b, bad]))
    return [loss(0, 0, 1), loss(0, 2, 1), loss(1, 0, 2)]


PREFERRED = np.array([[1, 0, 1], [1, 0, 0]], bool)


def test_dpo_compares_sums_with_those_of_the_frozen_model():
    total = lambda x: np.where(MASK, x, 0).sum(-1)
    found = losses(DPO(beta=0.3, nll=0.5))
    want = preferred(0.3 * (total(LOG_PROBS) - total(REFERENCE)))
    np.testing.assert_array_equal(found.kept, PREFERRED)
    close(found.values[PREFERRED], np.array(want) - 0.5 * of_texts(LOG_PROBS)[PREFERRED])


def test_simpo_compares_log_probs_per_token():
    found = losses(SimPO(beta=2.5, gamma=0.4))
    np.testing.assert_array_equal(found.kept, PREFERRED)
    close(found.values[PREFERRED], preferred(2.5 * of_texts(LOG_PROBS), 0.4))
    texts = jax.tree.leaves(gradient(SimPO())["text"])
    assert all(np.abs(x).max() > 1e-3 for x in texts)


def test_the_gradient_of_grpo_is_the_policy_gradient():
    """So is that of REINFORCE: without a penalty and a correction they are the same."""
    one, other = (gradient(objective, beta=0.0) for objective in (GRPO(), Reinforce()))
    jax.tree.map(close, one, other)
    assert all(np.abs(lora).max() > 1e-3 for lora in jax.tree.leaves(one["text"]))
    assert not any(np.any(x) for x in jax.tree.leaves(one["picture"]))


def test_a_correction_weighs_tokens_by_the_truncated_ratio_to_the_sampler():
    weights = np.minimum(np.exp(LOG_PROBS - SAMPLED), 1.2)
    assert (weights[MASK] < 1.2).any() and (weights[MASK] == 1.2).any()
    found = losses(GRPO(correction=1.2), beta=0.0)
    close(found.values, of_texts(-weights * LESSON.advantages[..., None]))
    own = replace(LESSON.said, rollout=replace(LESSON.said.rollout, log_probs=LOG_PROBS))
    on_policy = gradient(GRPO(correction=1.2), lesson=replace(LESSON, said=own), beta=0.0)
    jax.tree.map(close, on_policy, gradient(GRPO(), beta=0.0))  # every weight is 1


def test_corrected():
    now, sampled = jnp.log(jnp.array([0.4, 0.2, 0.9])), jnp.log(jnp.array([0.2, 0.4, 1e-30]))
    mask = jnp.array([True, True, False])
    assert corrected(0.0, now, sampled, mask) is None
    weigh: Any = corrected
    close(weigh(1.5, now, sampled, mask), [1.5, 0.5, 1.0])
    slope = jax.grad(lambda x: weigh(1.5, x, sampled, mask).sum())(now)
    assert not slope.any()


@every
def test_drift_and_measures(objective):
    found = losses(objective)
    np.testing.assert_array_equal(found.kept, LESSON.kept)
    close(found.drift, of_texts(KL))
    assert set(found.measures) == {"advantage", "entropy", "mismatch", "mismatch_max"}
    close(found.measures["advantage"], np.abs(LESSON.advantages))
    close(found.measures["entropy"], of_texts(-(jnp.exp(PLAIN) * PLAIN).sum(-1)))
    gap = jnp.abs(LOG_PROBS - SAMPLED)
    close(found.measures["mismatch"], of_texts(gap))
    close(found.measures["mismatch_max"], jnp.where(MASK, gap, 0).max(-1))


@every
def test_texts_that_do_not_count_teach_nothing(objective):
    nothing = replace(LESSON, kept=LESSON.kept & False)
    assert not losses(objective, lesson=nothing).kept.any()
    assert not any(np.any(x) for x in jax.tree.leaves(gradient(objective, lesson=nothing)))
    other = replace(LESSON, advantages=LESSON.advantages.at[1, 1].set(-3.0))
    jax.tree.map(close, gradient(objective, lesson=other), gradient(objective))


@every
def test_any_split_gives_the_same_sum(objective):
    parts = [jax.tree.map(lambda x, n=n: x[n : n + 1], LESSON) for n in range(B)]
    slopes = [gradient(objective, lesson=part) for part in parts]
    jax.tree.map(close, jax.tree.map(jnp.add, *slopes), gradient(objective))
    for n, part in enumerate(parts):
        close(losses(objective, lesson=part).values[0], losses(objective).values[n])


@every
def test_an_adapter_that_changes_nothing_has_not_drifted(objective):
    close(losses(objective, adapter=toy.adapter(size=0.0)).drift, 0)
