"""Convolutional parts: where the zeros stand, and what joins the residual."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from asg_jax.models.layers.convolution import Conv, ResidualBlock, downsample, upsample


def tap(row, column):
    """A 3x3 convolution of one channel that reads a single neighbour."""
    conv = Conv(1, 1, 3, rngs=nnx.Rngs(0))
    conv.kernel = nnx.Param(jnp.zeros((3, 3, 1, 1)).at[row, column].set(1.0))
    return conv


def picture(height, width):
    return jnp.arange(1.0, 1 + height * width).reshape(1, height, width, 1)


def test_downsampling_pads_at_the_bottom_and_right_only():
    x = picture(4, 6)
    np.testing.assert_array_equal(downsample(x, tap(0, 0)), x[:, ::2, ::2])
    last = downsample(x, tap(2, 2))
    assert last.shape == (1, 2, 3, 1)
    np.testing.assert_array_equal(last[:, :-1, :-1], x[:, 2::2, 2::2])
    assert not last[:, -1].any() and not last[:, :, -1].any()


def test_upsampling_repeats_every_pixel_and_then_convolves():
    x = picture(2, 3)
    repeated = np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
    np.testing.assert_array_equal(upsample(x, tap(1, 1)), repeated)
    shifted = upsample(x, tap(0, 1))  # reads the pixel above; zeros stand above the first row
    np.testing.assert_array_equal(shifted[:, 1:], repeated[:, :-1])
    assert not shifted[:, 0].any()


@pytest.mark.parametrize("outputs", [32, 64])
def test_a_residual_block_adds_its_input(outputs):
    """As it is, or through the shortcut where the channels differ."""
    x = jnp.sin(jnp.arange(128.0)).reshape(1, 2, 2, 32)
    block = ResidualBlock(32, outputs, rngs=nnx.Rngs(0))
    block.conv2.kernel = nnx.Param(jnp.zeros((3, 3, outputs, outputs)))
    shortcut = block.nin_shortcut
    assert (shortcut is None) == (outputs == 32)
    expected = x if shortcut is None else x @ shortcut.kernel[...]
    np.testing.assert_allclose(jax.jit(lambda x: block(x))(x), expected, atol=1e-5)
