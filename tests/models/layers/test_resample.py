"""Resizing inside jit gives Pillow's pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from asg_jax.models.layers.resample import bicubic

SIZES = [((40, 61), (56, 28)), ((33, 9), (33, 50)), ((71, 90), (17, 23)), ((8, 8), (64, 96))]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_every_bit_is_pillows(before, after):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (*before, 3), np.uint8)
    extremes = np.where(noise > 127, 255, 0).astype(np.uint8)  # the kernel overshoots
    found = jax.jit(bicubic, static_argnums=1)(jnp.stack([noise, extremes]).astype(int), after)
    for got, picture in zip(found, (noise, extremes), strict=True):
        want = Image.fromarray(picture).resize(after[::-1], Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(got, np.asarray(want))


def test_one_size_is_left_as_it_is():
    picture = jnp.arange(48).reshape(4, 4, 3)
    np.testing.assert_array_equal(bicubic(picture, (4, 4)), picture)
