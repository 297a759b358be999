"""Preferences between drawings of a toy model, against the formulas."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Params, Target
from asg_jax.objectives.drawing_preferences import (
    DrawingDPO,
    DrawingSimPO,
    FeatureDPO,
    Regional,
    log_likelihoods,
)
from asg_jax.objectives.painter import times_and_noise
from asg_jax.objectives.preference import feature_distance
from asg_jax.ops.bits import bit_log_probs
from asg_jax.ops.flow import gaussian_log_prob
from asg_jax.testing import toy
from tests.objectives.test_drawings import (
    ADAPTER,
    BETA,
    BITS,
    FLOW,
    NOISY,
    OLDER,
    gradient,
    losses,
    moments,
    own,
)

close = partial(np.testing.assert_allclose, rtol=5e-4, atol=1e-5)
ORDER = jnp.array([[1.0, 0.0, -1.0], [1.0, -1.0, 1.0]])  # of three drawings of two prompts
PAIRS = [(0, 0, 2), (1, 0, 1), (1, 2, 1)]  # prompt, preferred, other
KEPT = np.array([[1, 0, 0], [1, 0, 1]], bool)
ELEMENTS = toy.L * toy.C
softplus = lambda x: np.log1p(np.exp(x))
PAINTERS = {"flow": FLOW, "bits": BITS}
both = pytest.mark.parametrize("painter", PAINTERS.values(), ids=PAINTERS)


def lesson(painter):
    everyone = jnp.ones(ORDER.shape, bool)
    return replace(own(painter), advantages=ORDER, kept=everyone)


def velocities(adapter, draws):
    """Velocities, right ones and times; draws one after another on the second axis."""
    values = own(FLOW).drawn.values
    draw = times_and_noise(own(FLOW).keys, values, draws, NOISY.shift)
    params = Params(FLOW.base, adapter)
    condition = FLOW.backbone.condition(params, own(FLOW).request.prompts, own(FLOW).drawn.keys)
    target = Target(jnp.concatenate([values] * draws, 1), toy.GRID)
    terms = FLOW.backbone.terms(params, condition, target, draw)
    return terms.prediction, terms.goal, draw.t


def likelihoods(painter, adapter, draws=2):
    """Log-likelihoods per element by another way."""
    if painter is BITS:
        return bit_log_probs(BITS.logits(own(BITS), adapter), own(BITS).drawn.values).mean((2, 3))
    now, goal, _ = velocities(adapter, draws)
    return -((now - goal) ** 2).mean((2, 3)).reshape(2, draws, 3).mean(1)


def of_pairs(painter, score, gamma=0.0):
    """Mean loss of each preferred drawing, by a score of every drawing."""
    found = np.zeros((2, 3))
    for n, good, bad in PAIRS:
        found[n, good] = softplus(gamma - (score[n, good] - score[n, bad]))
    return found


@both
def test_dpo_by_hand(painter):
    got = losses(painter, DrawingDPO(beta=0.2, nll=0.3, draws=2), lesson(painter))
    now, still = likelihoods(painter, ADAPTER), likelihoods(painter, painter.anchor)
    want = of_pairs(painter, 0.2 * ELEMENTS * (now - still)) - 0.3 * now
    np.testing.assert_array_equal(got.kept, KEPT)
    close(got.values[KEPT], want[KEPT])


@both
def test_simpo_by_hand(painter):
    objective = DrawingSimPO(beta=3.0, gamma=0.4, draws=2)
    got = losses(painter, objective, lesson(painter))
    want = of_pairs(painter, 3.0 * likelihoods(painter, ADAPTER), 0.4)
    close(got.values[KEPT], want[KEPT])


def test_the_likelihood_by_steps_is_that_of_the_trajectory():
    (mean, std), (still, _) = moments(ADAPTER), moments(OLDER)
    after = jnp.moveaxis(own(FLOW).drawn.latents, 1, 0)[1:-1]
    each = lambda x: jax.vmap(gaussian_log_prob)(after, x, std).mean(0)
    found = jax.jit(lambda lesson: log_likelihoods(FLOW, ADAPTER, lesson, 1, "steps"))(lesson(FLOW))
    close(found.now, each(mean), atol=1e-4)
    close(found.reference, each(still), atol=1e-4)
    got = losses(FLOW, DrawingDPO(beta=0.05, likelihood="steps"), lesson(FLOW))
    want = of_pairs(FLOW, 0.05 * ELEMENTS * (each(mean) - each(still)))
    close(got.values[KEPT], want[KEPT], rtol=1e-3)


@both
def test_a_policy_that_is_its_reference_prefers_nothing(painter):
    painter = replace(painter, anchor=ADAPTER)
    for objective in (DrawingDPO(), FeatureDPO()):
        got = losses(painter, objective, lesson(painter))
        close(got.values[KEPT], np.log(2))
        close(got.drift, 0)


def test_feature_dpo_by_hand():
    got = losses(FLOW, FeatureDPO(gamma=5.0, draws=2), lesson(FLOW))
    drawn = jnp.concatenate([own(FLOW).drawn.values] * 2, axis=1)

    def far(adapter):
        now, goal, t = velocities(adapter, 2)
        noisy = (1 - t[..., None, None]) * drawn + t[..., None, None] * (goal + drawn)
        clean = noisy - t[..., None, None] * now
        return feature_distance(clean, drawn, "mean", "cosine").reshape(2, 2, 3).mean(1)

    want = of_pairs(FLOW, 5.0 * (far(OLDER) - far(ADAPTER)))
    close(got.values[KEPT], want[KEPT], rtol=2e-3)


def test_unpooled_squared_features_of_bits_are_squared_errors():
    got = losses(BITS, FeatureDPO(gamma=0.1, pool="none", distance="sq_euclidean"), lesson(BITS))
    bits = own(BITS).drawn.values
    far = lambda adapter: jnp.square(
        jax.nn.softmax(BITS.logits(own(BITS), adapter))[..., 1] - bits
    ).sum((2, 3))
    want = of_pairs(BITS, 0.1 * (far(None) - far(ADAPTER)))
    close(got.values[KEPT], want[KEPT])


@both
def test_drawings_without_preference_do_not_move_the_policy(painter):
    """Of the first prompt the second drawing is in no pair."""
    before = lesson(painter)
    drawn = replace(before.drawn, values=before.drawn.values.at[0, 1].set(1))
    for objective in (DrawingDPO(), DrawingSimPO(), FeatureDPO()):
        slope = gradient(painter, objective, before)
        assert any(np.any(x) for x in jax.tree.leaves(slope))
        jax.tree.map(close, gradient(painter, objective, replace(before, drawn=drawn)), slope)


def test_places_weigh_as_they_are_good():
    weights = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 3, toy.L)), jnp.float32)
    got = losses(FLOW, Regional(regularization=0.25), replace(lesson(FLOW), weights=weights))
    (now, goal, _), (still, _, _) = velocities(ADAPTER, 1), velocities(None, 1)
    error = ((weights[..., None] + 0.25) * (now - goal) ** 2).mean((2, 3))
    close(got.values, error + BETA * ((now - still) ** 2).mean((2, 3)))
