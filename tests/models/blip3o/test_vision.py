"""Windows of the vision tower: tiling, and attention that never leaves them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asg_jax.backbone import Image
from asg_jax.models.blip3o.vision import WindowVisionConfig, window_order, windowed_attention
from asg_jax.models.layers.attention import Block, attention

CONFIG = WindowVisionConfig(patch=2, window=8)  # windows of 2 x 2 features


def test_windows_tile_the_picture_in_raster_order():
    order, window = window_order(jnp.array([[6, 10], [4, 4]]), 16, CONFIG)
    # Three rows of five features: columns 0-1, 2-3 and 4, rows 0-1 and 2.
    assert order[0, :15].tolist() == [0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]
    assert window[0].tolist() == [0] * 4 + [1] * 4 + [2] * 2 + [3] * 2 + [4] * 2 + [5, 16]
    assert order[1, :4].tolist() == [0, 1, 2, 3]
    assert window[1].tolist() == [0] * 4 + [16] * 12


@pytest.mark.parametrize(
    "sizes", [[4, 3, 4, 1, 2, 4], [4, 4, 4, 4, 2], [1] * 18, [2, 4, 4, 4, 3, 1]]
)
def test_blocks_give_what_a_dense_mask_gives(sizes):
    window = jnp.repeat(jnp.arange(len(sizes)), jnp.array(sizes), total_repeat_length=sum(sizes))
    window = window[None]
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, sum(sizes), 2, 4))
    mask = (window[:, :, None] == window[:, None])[:, None]
    want = attention(q[:, None], [Block(k[:, None], v[:, None], mask)])[:, 0]
    found = windowed_attention(q, k, v, window, 4)
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_padding_and_neighbours_change_nothing(blip3o):
    """A picture in a longer bucket beside another one has the features it has alone."""
    config = blip3o.backbone.config.vision
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 96, config.patch_width)).astype(np.float32)
    grids = jnp.array([[6, 10], [8, 12]])
    mask = jnp.arange(96) < grids.prod(1)[:, None]
    both = blip3o.jit("encode_image")(Image(jnp.asarray(rows), grids, mask))
    alone = Image(jnp.asarray(rows[:1, :60]), grids[:1], mask[:1, :60])
    found = blip3o.jit("encode_image")(alone)
    np.testing.assert_allclose(found, both[:1, :15], atol=1e-5)
