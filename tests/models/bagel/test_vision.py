"""The vision tower: positions, masks, half precision and the fixed tables."""

from dataclasses import replace
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asg_jax.models.bagel.vision import grid_positions
from asg_jax.models.layers.embeddings import sincos_2d
from tests.models.bagel.conftest import image_of

SIDE = 8
positions = jax.jit(grid_positions, static_argnums=(1, 2, 3))


@pytest.fixture(scope="module")
def image(bagel):
    """Two pictures of 2 x 3 and 4 x 1 patches, padded to 8."""
    rng, patch = np.random.default_rng(0), bagel.backbone.config.vision.patch
    sizes = [(2, 3), (4, 1)]
    pictures = [rng.normal(size=(3, h * patch, w * patch)) for h, w in sizes]
    return image_of([picture.astype(np.float32) for picture in pictures], patch)


def test_the_fixed_tables_are_those_of_the_checkpoint(bagel):
    config = bagel.backbone.config
    for name, side in (("vision", config.vision.side), ("latent", config.latent_side)):
        stored = bagel.params.base[f"{name}_positions"]
        np.testing.assert_allclose(sincos_2d(side, config.language.width), stored, atol=1e-6)


def test_masked_patches_are_never_seen(bagel, image):
    """Neither padding nor a picture that is absent altogether does any harm."""
    expected = bagel.jit("encode_image")(image)
    noise = np.random.default_rng(0).normal(size=image.patches.shape).astype(np.float32)
    patches = jnp.where(image.mask[..., None], image.patches, 100 * noise)
    found = bagel.jit("encode_image")(replace(image, patches=patches))
    np.testing.assert_allclose(found[image.mask], expected[image.mask], atol=3e-5)
    absent = replace(image, mask=image.mask.at[1].set(False))
    found = bagel.jit("encode_image")(absent)
    np.testing.assert_allclose(found[0][image.mask[0]], expected[0][image.mask[0]], atol=3e-5)
    assert jnp.isfinite(found).all()


def test_bfloat16_stays_close_to_float32(bagel, image):
    full = bagel.jit("encode_image")(image)
    backbone = replace(bagel.backbone, config=bagel.backbone.config.compute("bfloat16"))
    half = jax.jit(backbone.encode_image)(bagel.params, image)
    assert half.dtype == jnp.bfloat16
    error = jnp.abs(half.astype(jnp.float32) - full)[image.mask]
    assert 1e-4 < error.max() < 0.02 * jnp.abs(full).max()


@settings(max_examples=20)
@given(st.integers(1, SIDE), st.integers(1, SIDE), st.booleans())
def test_positions(height, width, interpolate):
    """Row-major on the grid of the table: anchored at the top left, or spread over all of it."""
    count = SIDE * SIDE
    found = positions(jnp.array([[height, width]]), count, SIDE, interpolate)[0]
    place = lambda k, n: int(Fraction(k, n) * SIDE) if interpolate else k
    grid = [(row, column) for row in range(height) for column in range(width)]
    expected = [place(row, height) * SIDE + place(column, width) for row, column in grid]
    assert found[: len(grid)].tolist() == expected
    assert 0 <= found.min() and found.max() < count
