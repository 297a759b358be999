"""Rows of conversations with losses: dropped conditions, indexes, labels and padding."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.models.bagel.config import BagelConfig
from asg_jax.models.bagel.layout import (
    Gap,
    Latent,
    Text,
    View,
    drop_conditions,
    layout,
    training_batch,
)
from asg_jax.models.bagel.training import training_losses, visible

CONFIG = BagelConfig()
CHANNELS = CONFIG.token_channels

QUESTION, ANSWER = Text([1, 2, 3]), Text([4, 5, 6, 7], loss=True)
VIEW, CLEAN, NOISY = View((1, 2)), Latent((1, 2)), Latent((1, 2), noisy=True)
SAMPLE = [QUESTION, VIEW, CLEAN, ANSWER, NOISY]


def batch_of(samples, config=CONFIG):
    """A training batch whose latents count up from one, picture by picture."""
    rng = np.random.default_rng(0)
    latents, times = [], []
    for sample in samples:
        pictures = [segment for segment in sample if isinstance(segment, Latent)]
        shapes = [(math.prod(p.grid), config.token_channels) for p in pictures]
        values = [np.full(shape, n + 1, np.float32) for n, shape in enumerate(shapes)]
        latents.append(values)
        times.append([0.5 if p.noisy else -np.inf for p in pictures])
    return training_batch(samples, config, latents, times, rng)


def rng_of(seed=0):
    return np.random.default_rng(seed)


def test_segments_with_a_loss_are_never_dropped():
    kept = drop_conditions(SAMPLE, rng_of(), text=1.0, view=1.0, latent=1.0)
    assert kept == [Gap(), Gap(), ANSWER, NOISY]


def test_nothing_is_dropped_at_probability_zero():
    assert drop_conditions(SAMPLE, rng_of(), text=0.0, view=0.0, latent=0.0) == SAMPLE


@pytest.mark.parametrize(
    ("given", "rates"), [({}, (0.1, 0.3, 0.3)), ({"text": 0.2, "latent": 0.6}, (0.2, 0.3, 0.6))]
)
def test_conditions_are_dropped_independently_at_their_rates(given, rates):
    """By default 0.1 of the texts, 0.3 of the views and of the clean latents."""
    count, rng = 4000, rng_of()
    dropped = np.zeros((count, 3), bool)
    for n in range(count):
        kept = drop_conditions([QUESTION, VIEW, CLEAN], rng, **given)
        dropped[n] = QUESTION not in kept, VIEW not in kept, CLEAN not in kept
    wanted = np.array(rates)
    bound = 5 * np.sqrt(wanted * (1 - wanted) / count)
    assert np.all(np.abs(dropped.mean(0) - wanted) < bound)
    assert np.all(np.abs(np.corrcoef(dropped.T) - np.eye(3)) < 5 / np.sqrt(count))


@pytest.mark.parametrize(
    ("segments", "positions"),
    [
        ([QUESTION, VIEW, ANSWER], [0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7]),
        ([VIEW, ANSWER], [0, 0, 0, 0, 1, 2, 3, 4]),  # a dropped text leaves no trace
        ([QUESTION, Gap(), ANSWER], [0, 1, 2, 4, 5, 6, 7]),  # a dropped picture leaves its index
        ([NOISY, VIEW, ANSWER], [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),  # noisy and clean share one
        ([], []),
    ],
)
def test_indexes(segments, positions):
    """Text rows in order, markers of latents among them; latent rows stand elsewhere."""
    prompt = layout([segments], CONFIG)
    text = prompt.ids.shape[1] - prompt.latents
    assert prompt.positions[0, :text, 0][prompt.mask[0, :text]].tolist() == positions


def test_a_noisy_picture_is_seen_by_itself_alone():
    """Its clean copy follows at the same index, and is seen by the text after it."""
    batch = batch_of([[NOISY, CLEAN, QUESTION]])
    seen, text = visible(batch)[0, 0], batch.labels.shape[1]
    noisy = [0, 1, text, text + 1]
    clean = [2, 3, text + 2, text + 3]
    words = [4, 5, 6]
    expected = np.zeros(seen.shape, bool)
    expected[np.ix_(noisy, noisy)] = True
    expected[np.ix_(clean, clean)] = True
    expected[np.ix_(words, clean)] = True
    expected[np.ix_(words, words)] = np.tri(3)
    real = np.asarray(batch.prompt.mask[0])
    np.testing.assert_array_equal(np.asarray(seen)[real], expected[real])


def test_labels_are_the_next_tokens_of_texts_with_a_loss():
    """All of a segment weigh the root of their number, whatever its length."""
    long = Text(range(10, 27), loss=True)
    batch = batch_of([[QUESTION, ANSWER, VIEW, long]])
    labels, weights = batch.labels[0], batch.weights[0]
    first, second = slice(3, 7), slice(11, 28)
    assert labels[first].tolist() == [5, 6, 7, -1]
    assert labels[second].tolist() == [*range(11, 27), -1]
    np.testing.assert_allclose(weights[first], [3**-0.5] * 3 + [0])
    np.testing.assert_allclose(weights[second].sum(), 16**0.5)
    assert np.all(labels >= 0) == np.all(weights > 0)
    assert (labels >= 0).sum() == 3 + 16 and (weights > 0).sum() == 3 + 16


def test_padding_carries_nothing():
    large = [Latent((2, 2)), QUESTION, Latent((1, 4), noisy=True)]
    batch = batch_of([large, [ANSWER, Latent((4, 1), noisy=True)]])
    text = batch.labels.shape[1]
    assert batch.latents.shape == batch.noise.shape == (2, 8, CHANNELS)
    assert batch.latents[:, :, 0].tolist() == [[1] * 4 + [2] * 4, [1] * 4 + [0] * 4]
    assert batch.picture.tolist() == [[0] * 4 + [1] * 4, [0] * 8]
    assert batch.place.tolist() == [[0, 1, 64, 65, 0, 1, 2, 3], [0, 64, 128, 192, 0, 0, 0, 0]]
    assert batch.raw_time.tolist() == [[-np.inf, 0.5], [0.5, -np.inf]]
    padding = ~batch.prompt.mask
    assert padding.sum(1).tolist() == [text - 7, text - 6 + 4]
    assert not batch.noisy[padding].any()
    assert np.all(batch.labels[padding[:, :text]] == -1)
    assert not batch.weights[padding[:, :text]].any()


def test_a_sample_has_the_same_losses_in_a_larger_batch(bagel):
    config = bagel.backbone.config
    small = [ANSWER, Latent((1, 2), noisy=True)]
    large = [Text(range(20), loss=True), Latent((2, 1)), Latent((2, 1), noisy=True)]
    run = jax.jit(lambda params, batch: training_losses(bagel.backbone.model(params), batch))
    together = jax.tree.map(jnp.asarray, batch_of([large, small], config))
    alone = jax.tree.map(jnp.asarray, batch_of([small], config))
    alone = replace(alone, noise=together.noise[1:, :2])
    losses, expected = run(bagel.params, together), run(bagel.params, alone)
    count = len(ANSWER.ids)
    np.testing.assert_allclose(losses.ce[1, :count], expected.ce[0, :count], atol=5e-5)
    np.testing.assert_allclose(losses.mse[1, :2], expected.mse[0], rtol=1e-4, atol=5e-5)
    assert not losses.ce[1, count - 1 :].any() and not losses.mse[1, 2:].any()
    assert not losses.mse[0, :2].any() and losses.mse[0, 2:].all()


def test_a_batch_without_pictures_has_losses(bagel):
    """Text alone: no latent rows, no squared error."""
    batch = jax.tree.map(jnp.asarray, batch_of([[ANSWER]], bagel.backbone.config))
    losses = training_losses(bagel.network(), batch)
    assert losses.mse.shape[1] == 0 and losses.ce[0, :3].all()


def test_pictures_of_a_sample_may_differ_in_size():
    for _ in range(20):  # the runtime checks look at random items
        assert batch_of([[Latent((2, 2)), Latent((1, 3), noisy=True)]]).latents.shape[1] == 7
