"""Classifier-free guidance of velocities."""

import jax
import numpy as np
import pytest

from asg_jax.backbone import Sampler
from asg_jax.ops.guidance import guide

guided = jax.jit(guide, static_argnums=3)


def normal(*shape):
    """Normal numbers, the same at every call."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("renorm", ["global", "channel"])
def test_two_scales_over_one_context_are_one(renorm):
    main, no_text = normal(2, 1, 2, 3, 4)
    both = Sampler((1, 3), guidance=4.0, image_guidance=1.5, renorm=renorm)
    one = Sampler((1, 3), guidance=5.5, renorm=renorm)
    got, want = guided(main, no_text, main, both), guided(main, no_text, main, one)
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


def test_guidance_of_one_image_ignores_the_others():
    main, no_text = normal(2, 1, 2, 3, 4)
    sampler = Sampler((1, 3), renorm="global")
    both = guided(main, no_text, main, sampler)
    main[:, 1:] += 1
    np.testing.assert_array_equal(both[:, :1], guided(main, no_text, main, sampler)[:, :1])
