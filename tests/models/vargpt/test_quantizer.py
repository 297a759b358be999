"""Bits of every scale: resampling against plain formulas, flips and their correction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asg_jax.models.vargpt.quantizer import (
    codes,
    dequantize,
    interpolation,
    pooling,
    quantize,
    random_flips,
    residuals,
)
from asg_jax.models.vargpt.scales import TEMPLATES, Schedule, schedule

SMALL = Schedule(((1, 1), (2, 3), (3, 3), (5, 4)), (5, 4))
SIZES = st.integers(1, 40)


@given(SIZES, SIZES)
def test_pooling_is_the_mean_over_cells_that_may_overlap(inputs, outputs):
    values = np.arange(inputs) ** 2 % 7
    cell = lambda i: values[i * inputs // outputs : -(-(i + 1) * inputs // outputs)]
    expected = [cell(i).mean() for i in range(outputs)]
    np.testing.assert_allclose(pooling(inputs, outputs) @ values, expected, rtol=1e-5, atol=1e-6)


@given(SIZES, SIZES)
def test_interpolation_is_linear_between_centres_without_smoothing(inputs, outputs):
    values = np.arange(inputs) ** 2 % 7
    centres = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
    expected = np.interp(centres, np.arange(inputs), values)
    np.testing.assert_allclose(interpolation(inputs, outputs) @ values, expected, atol=1e-4)


def test_codes_are_unit_vectors_and_zero_is_bit_0():
    bits = quantize(jnp.array([[[[1.0, -1.0, 0.0, 1e-9]]]]), Schedule(((1, 1),), (1, 1)))
    assert bits.tolist() == [[[1, 0, 0, 1]]]
    np.testing.assert_allclose(codes(bits), [[[0.5, -0.5, -0.5, 0.5]]])


def features(seed, grid, channels=6):
    values = np.random.default_rng(seed).normal(size=(2, *grid, channels))
    return jnp.asarray(values, jnp.float32)


def test_bits_are_the_signs_of_residuals_which_end_in_the_sum():
    latents = features(0, SMALL.grid)
    bits = quantize(latents, SMALL)
    left, total = residuals(latents, SMALL)
    np.testing.assert_array_equal(left > 0, bits)
    np.testing.assert_allclose(total, dequantize(bits, SMALL)[1], atol=1e-6)
    np.testing.assert_allclose(
        left[:, SMALL.part(3)].reshape(latents.shape)
        - codes(bits[:, SMALL.part(3)]).reshape(latents.shape),
        latents - total,
        atol=1e-6,
    )
    slope = jax.grad(lambda x: residuals(x, SMALL)[1].sum())(latents)
    assert not slope.any()  # the sum follows the bits alone


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_bits_depend_on_the_bits_before_alone(seed):
    """The inputs of a scale are those that the coarser bits give; scales add up to the sum."""
    bits = quantize(features(seed, SMALL.grid), SMALL)
    inputs, total = dequantize(bits, SMALL)
    assert inputs.shape == (2, SMALL.length - 1, 6) and total.shape == (2, 5, 4, 6)
    changed = bits.at[:, SMALL.part(2)].set(1 - bits[:, SMALL.part(2)])
    again, other = dequantize(changed, SMALL)
    before = SMALL.starts[3] - 1
    np.testing.assert_array_equal(inputs[:, :before], again[:, :before])
    assert (inputs[:, before:] != again[:, before:]).any() and (total != other).any()


def test_later_scales_correct_what_was_flipped():
    """With flips the sum stays closer to the features than if the labels did not know of them."""
    found = schedule(TEMPLATES, 7, (16, 16))
    latents = features(0, found.grid, 16) * 0.3
    flips = random_flips(jax.random.key(1), (2,), 16, found)
    plain, knowing = quantize(latents, found), quantize(latents, found, flips)
    error = lambda bits: float(jnp.mean((dequantize(bits ^ flips, found)[1] - latents) ** 2))
    assert error(knowing) < 0.8 * error(plain)


def test_flips_have_one_share_per_scale_of_30_percent_at_most():
    found = schedule(TEMPLATES, 10, (32, 32))
    last = [
        random_flips(jax.random.key(n), (2,), 32, found)[:, found.part(9)].mean() for n in range(12)
    ]
    shares = np.round(np.array(last) * 100)
    assert shares.max() <= 31 and len(set(shares.tolist())) > 4
    assert shares.std() > 4  # whole percents, spread over 0..30


@pytest.mark.parametrize("grid", [(32, 32), (54, 18)])
def test_the_last_scale_is_not_resampled(grid):
    found = schedule(TEMPLATES, 10, grid)
    latents = features(0, grid, 4)
    bits = quantize(latents, found)
    before = dequantize(bits.at[:, found.part(9)].set(0), found)[1] + 0.5
    np.testing.assert_array_equal(
        bits[:, found.part(9)], (latents - before > 0).reshape(2, -1, 4).astype(int)
    )
