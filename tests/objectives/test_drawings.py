"""Objectives of drawings on a toy model that drew them, against the formulas."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Sampler, Target
from asg_jax.objectives import flow
from asg_jax.objectives.drawings import (
    NFT,
    RWR,
    BitsGRPO,
    DrawingDPO,
    DrawingImitation,
    FlowGRPO,
    fault,
)
from asg_jax.objectives.painter import DrawingLesson, Painter, times_and_noise
from asg_jax.ops.bits import bit_entropy, bit_kl, bit_log_probs
from asg_jax.ops.flow import gaussian_log_prob
from asg_jax.rollout.image import draw, trace_moments
from asg_jax.testing import toy

B, L = 2, 3
BETA = 0.3
NOISY = Sampler(toy.GRID, steps=3, guidance=1.0, noise_level=0.7)
PLAIN = Sampler(toy.GRID, guidance=1.0)
ADAPTER, OLDER = toy.adapter(), toy.adapter(5)
TOY: Any = toy.Toy()
TOY_BITS: Any = toy.Toy("bits")
FLOW: Any = Painter(TOY, NOISY, toy.base(), OLDER)
BITS: Any = Painter(TOY_BITS, PLAIN, toy.base())
OBJECTIVES = {
    "rwr": (FLOW, RWR(temperature=0.5)),
    "nft": (FLOW, NFT()),
    "flow_imitation": (FLOW, DrawingImitation()),
    "flow_grpo": (FLOW, FlowGRPO()),
    "bits_grpo": (BITS, BitsGRPO()),
    "bits_imitation": (BITS, DrawingImitation()),
}
every = pytest.mark.parametrize("painter, objective", OBJECTIVES.values(), ids=OBJECTIVES)
close = partial(np.testing.assert_allclose, rtol=5e-4, atol=1e-5)
KEPT = jnp.array([[True, False, True], [True, True, True]])
ADVANTAGES = jnp.array([[1.0, 5.0, -1.0], [0.5, -2.0, 1.5]])


def lesson(painter: Painter, adapter=ADAPTER) -> DrawingLesson:
    """Drawings of an adapter."""
    request, keys = toy.request(B), jax.random.split(jax.random.key(0), (B, L))
    params = Params(painter.base, adapter)
    drawn = jax.jit(draw, static_argnums=(0, 4))(
        painter.backbone, params, request, keys, painter.sampler
    )
    return DrawingLesson(request, drawn, ADVANTAGES, KEPT, jax.random.split(jax.random.key(7), B))


LESSONS = {painter.backbone.kind: lesson(painter) for painter in (FLOW, BITS)}


def own(painter: Painter) -> Any:
    """The lesson of a painter's kind."""
    return LESSONS[painter.backbone.spec.kind]


def losses(painter, objective, lesson=None, adapter=ADAPTER, beta=BETA):
    """Of a lesson, compiled."""
    lesson = own(painter) if lesson is None else lesson
    return jax.jit(lambda adapter, lesson: objective.losses(painter, adapter, lesson, beta))(
        adapter, lesson
    )


def gradient(painter, objective, lesson=None, beta=BETA) -> Any:
    """Of the sum of what is kept, with respect to the picture's factors."""

    def total(adapter, lesson):
        found = objective.losses(painter, adapter, lesson, beta)
        return jnp.where(found.kept, found.values, 0).sum()

    lesson = own(painter) if lesson is None else lesson
    return jax.jit(jax.grad(total))(ADAPTER, lesson)["picture"]


def at_noise(adapter, draws=1):
    """Velocities at the noise of the lesson, what they should have been, and the times."""
    values = own(FLOW).drawn.values
    noise = times_and_noise(own(FLOW).keys, values, draws, NOISY.shift)
    values = jnp.concatenate([values] * draws, axis=1)
    params = Params(FLOW.base, adapter)
    condition = FLOW.backbone.condition(params, own(FLOW).request.prompts, own(FLOW).drawn.keys)
    terms = FLOW.backbone.terms(params, condition, Target(values, toy.GRID), noise)
    return terms.prediction, terms.goal, noise.t


square = lambda x: (x**2).mean((-2, -1))


def test_times_lie_evenly_and_are_those_of_the_group():
    keys, values = jax.random.split(jax.random.key(0), 5), jnp.zeros((5, 3, 6, 2))
    draws = times_and_noise(keys, values, 4, 1.0)
    assert draws.t.shape == (5, 12) and draws.noise.shape == (5, 12, 6, 2)
    t, noise = draws.t.reshape(5, 4, 3), draws.noise.reshape(5, 4, 3, 6, 2)
    np.testing.assert_array_equal(t, t[..., :1] + 0 * t)
    np.testing.assert_array_equal(noise, noise[:, :, :1] + 0 * noise)
    np.testing.assert_array_equal(np.floor(4 * t[..., 0]), [[0, 1, 2, 3]] * 5)
    assert len(np.unique(t[..., 0] % 0.25)) == 20 and np.abs(noise[:, 0] - noise[:, 1]).max() > 1
    shifted = times_and_noise(keys, values, 4, 3.0)
    close(shifted.t, 3 * draws.t / (1 + 2 * draws.t))
    np.testing.assert_array_equal(shifted.noise, draws.noise)
    alone = times_and_noise(keys[3:4], values[3:4], 4, 1.0)
    np.testing.assert_array_equal(alone.noise[0], draws.noise[3])
    np.testing.assert_array_equal(alone.t[0], draws.t[3])


def test_rwr_by_hand():
    now, goal, _ = at_noise(ADAPTER)
    still, _, _ = at_noise(None)
    found = losses(FLOW, RWR(temperature=0.5))
    weights = flow.rwr_weights(ADVANTAGES, KEPT, 0.5)
    close(found.values, weights * square(now - goal) + BETA * square(now - still))
    np.testing.assert_array_equal(found.kept, KEPT)


def test_rwr_leaves_out_prompts_whose_drawings_are_equally_good():
    equal = replace(own(FLOW), advantages=jnp.array([[0.0, 5.0, 0.0], [0.0, 0.0, 1.0]]))
    found = losses(FLOW, RWR(), equal)  # the drawing of 5 does not count
    np.testing.assert_array_equal(found.kept, [[False] * 3, [True] * 3])
    found = losses(FLOW, NFT(), equal)
    np.testing.assert_array_equal(found.kept, KEPT)


def test_nft_by_hand():
    (now, goal, t), (old, _, _), (still, _, _) = map(at_noise, (ADAPTER, OLDER, None))
    r = np.clip(0.5 + 0.25 * ADVANTAGES, 0, 1)
    good, bad = t**2 * square(now - goal), t**2 * square(2 * old - now - goal)
    want = r * good + (1 - r) * bad + BETA * square(now - still)
    found = losses(FLOW, NFT())
    close(found.values, want)
    np.testing.assert_array_equal(found.kept, KEPT)


def test_nft_needs_an_older_policy():
    assert {name for name, (_, one) in OBJECTIVES.items() if one.anchored} == {"nft"}
    with pytest.raises(Exception, match="old"):
        losses(replace(FLOW, anchor=None), NFT())


def test_imitation_is_flow_matching_or_cross_entropy():
    now, goal, _ = at_noise(ADAPTER)
    still, _, _ = at_noise(None)
    found = losses(FLOW, DrawingImitation())
    close(found.values, square(now - goal) + BETA * square(now - still))
    np.testing.assert_array_equal(found.kept, KEPT)
    logits, frozen = (BITS.logits(own(BITS), adapter) for adapter in (ADAPTER, None))
    fit = bit_log_probs(logits, own(BITS).drawn.values).mean((-2, -1))
    found = losses(BITS, DrawingImitation())
    want = BETA * bit_kl(logits, frozen).mean((-2, -1)) - fit
    close(found.values, jnp.where(KEPT, want, 0))
    np.testing.assert_array_equal(found.kept, KEPT)


@pytest.mark.parametrize("objective", [RWR(draws=2), NFT(draws=2), DrawingImitation(draws=2)])
def test_draws_lie_side_by_side(objective):
    """Twice as many samples, the image and its advantage again, at another time and noise."""
    found = losses(FLOW, objective)
    np.testing.assert_array_equal(found.kept, np.concatenate([KEPT, KEPT], axis=1))
    close(found.measures["advantage"], np.abs(np.concatenate([ADVANTAGES, ADVANTAGES], axis=1)))
    assert np.abs(found.drift[:, :L] - found.drift[:, L:]).min() > 1e-4
    now, still = at_noise(ADAPTER, 2)[0], at_noise(None, 2)[0]
    close(found.drift, square(now - still) / square(still))


@pytest.mark.parametrize("objective", [RWR(), NFT(), DrawingImitation()])
def test_drift_of_velocities_is_relative(objective):
    now, still = at_noise(ADAPTER)[0], at_noise(None)[0]
    close(losses(FLOW, objective).drift, square(now - still) / square(still))


def moments(adapter):
    """Means and deviations of the noisy steps, recorded latents before and after them."""
    request, drawn = own(FLOW).request, own(FLOW).drawn
    params = Params(FLOW.base, adapter)
    condition = FLOW.backbone.condition(params, request.prompts, drawn.keys)
    each = [
        trace_moments(FLOW.backbone, params, condition, drawn.latents[:, s], s, NOISY)
        for s in range(NOISY.steps - 1)
    ]
    return jnp.stack([mean for mean, _ in each]), jnp.stack([std for _, std in each])


def test_flow_grpo_by_hand():
    (mean, std), (still, _) = moments(ADAPTER), moments(None)
    kl = square(mean - still) / (2 * std[:, None, None] ** 2)
    found = losses(FLOW, FlowGRPO())
    close(found.values, jnp.where(KEPT, BETA * kl.mean(0) - ADVANTAGES, 0))
    close(found.drift, kl.mean(0))
    np.testing.assert_array_equal(found.kept, KEPT)
    close(found.measures["mismatch"], 0, atol=1e-4)  # of the policy that drew them
    close(found.measures["mismatch_max"], 0, atol=1e-4)
    other = losses(FLOW, FlowGRPO(), adapter=OLDER)
    after = jnp.moveaxis(own(FLOW).drawn.latents, 1, 0)[1:-1]
    mean, std = moments(OLDER)
    scale = std[:, None, None, None, None]
    density = -square((after - mean) / scale) / 2 - jnp.log(std)[:, None, None]
    density -= np.log(2 * np.pi) / 2
    gap = np.abs(density - jnp.moveaxis(own(FLOW).drawn.log_probs, 1, 0)[:-1])
    close(other.measures["mismatch"], gap.mean(0), atol=1e-4)
    close(other.measures["mismatch_max"], gap.max(0), atol=1e-4)


def test_the_gradient_of_flow_grpo_is_the_policy_gradient():
    latents = jnp.moveaxis(own(FLOW).drawn.latents, 1, 0)

    def gain(adapter):
        log_probs = jax.vmap(gaussian_log_prob)(latents[1:-1], *moments(adapter))
        return -jnp.where(KEPT, ADVANTAGES * log_probs.mean(0), 0).sum()

    want = jax.grad(gain)(ADAPTER)["picture"]
    jax.tree.map(close, gradient(FLOW, FlowGRPO(), beta=0.0), want)


def test_bits_grpo_by_hand():
    logits, frozen = (BITS.logits(own(BITS), adapter) for adapter in (ADAPTER, None))
    kl = bit_kl(logits, frozen).mean((-2, -1))
    found = losses(BITS, BitsGRPO())
    close(found.values, jnp.where(KEPT, BETA * kl - ADVANTAGES, 0))
    close(found.drift, kl)
    close(found.measures["entropy"], bit_entropy(logits).mean((-2, -1)))
    close(found.measures["mismatch"], 0)
    gap = np.abs(
        bit_log_probs(BITS.logits(own(BITS), OLDER), own(BITS).drawn.values)
        - own(BITS).drawn.log_probs
    )
    other = losses(BITS, BitsGRPO(), adapter=OLDER)
    close(other.measures["mismatch"], gap.mean((-2, -1)))
    close(other.measures["mismatch_max"], gap.max((-2, -1)))


def test_a_correction_weighs_bits_by_the_truncated_ratio_to_the_sampler():
    log_probs = bit_log_probs(BITS.logits(own(BITS), OLDER), own(BITS).drawn.values)
    weights = np.minimum(np.exp(log_probs - own(BITS).drawn.log_probs), 1.1)
    assert (weights == 1.1).any() and (weights < 1.1).any()
    found = losses(BITS, BitsGRPO(correction=1.1), adapter=OLDER, beta=0.0)
    close(found.values, jnp.where(KEPT, -weights.mean((-2, -1)) * ADVANTAGES, 0))


@every
def test_drawings_that_do_not_count_teach_nothing(painter, objective):
    before, nothing = own(painter), replace(own(painter), kept=KEPT & False)
    assert not losses(painter, objective, nothing).kept.any()
    assert not any(np.any(x) for x in jax.tree.leaves(gradient(painter, objective, nothing)))
    drawn = replace(before.drawn, values=before.drawn.values.at[0, 1].set(1))
    other = replace(before, drawn=drawn, advantages=ADVANTAGES.at[0, 1].set(-3.0))
    slope = gradient(painter, objective)
    jax.tree.map(close, gradient(painter, objective, other), slope)
    assert all(np.any(x) for x in jax.tree.leaves(slope))


@every
def test_any_split_gives_the_same_sum(painter, objective):
    parts = [jax.tree.map(lambda x, n=n: x[n : n + 1], own(painter)) for n in range(B)]
    slopes = [gradient(painter, objective, part) for part in parts]
    jax.tree.map(close, jax.tree.map(jnp.add, *slopes), gradient(painter, objective))
    whole = losses(painter, objective)
    for n, part in enumerate(parts):
        close(losses(painter, objective, part).values[0], whole.values[n])


@every
def test_an_adapter_that_changes_nothing_has_not_drifted(painter, objective):
    close(losses(painter, objective, adapter=toy.adapter(size=0.0)).drift, 0)


def test_what_an_objective_does_not_train_is_said():
    guided = replace(NOISY, guidance=2.0)
    for objective in (RWR(), NFT(), DrawingImitation()):
        assert fault(objective, "flow", guided) == ""
    assert fault(FlowGRPO(), "flow", NOISY) == ""
    assert "noise_level" in fault(FlowGRPO(), "flow", PLAIN)
    assert "noise_level" in fault(FlowGRPO(), "flow", guided)
    for objective in (BitsGRPO(), DrawingImitation()):
        for sampler in (PLAIN, replace(PLAIN, guidance=2.0), replace(PLAIN, temperature=0.5)):
            assert fault(objective, "bits", sampler) == ""
        assert "were drawn from" in fault(objective, "bits", replace(PLAIN, top_p=0.9))
    said = fault(RWR(), "bits", PLAIN)
    assert said == (
        "objective 'rwr' does not train a backbone of kind 'bits'; "
        "choose one of: bits_grpo, drawing_imitation, drawing_dpo, drawing_simpo, feature_dpo"
    )
    known = "choose one of: rwr, nft, flow_grpo, drawing_imitation, drawing_dpo, drawing_simpo"
    assert fault(BitsGRPO(), "flow", PLAIN).endswith(f"{known}, feature_dpo, regional")
    by_steps = DrawingDPO(likelihood="steps")
    assert fault(by_steps, "flow", NOISY) == "" and "noise_level" in fault(by_steps, "flow", PLAIN)
    assert [one.imitates for _, one in OBJECTIVES.values()] == [0, 0, 1, 0, 0, 1]
