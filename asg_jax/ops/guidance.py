"""Classifier-free guidance of velocities."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from asg_jax.backbone import Sampler


def guide(
    main: Float[Array, "B G L C"],
    no_text: Float[Array, "B G L C"],
    no_image: Float[Array, "B G L C"],
    sampler: Sampler,
) -> Float[Array, "B G L C"]:
    """Combines the velocities of the contexts with text, without text and without images.

    The text scale extrapolates from `no_text`, the image scale from `no_image`; the result is
    shrunk to the norm of `main` (never below `renorm_min` of itself), where `global` takes the
    norm over one image. (BAGEL, arXiv 2505.14683, inference code.)
    """
    if sampler.guidance <= 1:
        return main
    guided = no_text + sampler.guidance * (main - no_text)
    if sampler.renorm == "text_channel":
        guided = _renorm(guided, main, (-1,), sampler.renorm_min)
    if sampler.image_guidance > 1:
        guided = no_image + sampler.image_guidance * (guided - no_image)
    if sampler.renorm == "text_channel":
        return guided
    axes = (-2, -1) if sampler.renorm == "global" else (-1,)
    return _renorm(guided, main, axes, sampler.renorm_min)


def _renorm(guided: Array, main: Array, axes: tuple[int, ...], low: float) -> Array:
    norm = lambda x: jnp.sqrt(jnp.sum(x * x, axes, keepdims=True))
    return guided * jnp.clip(norm(main) / (norm(guided) + 1e-8), low, 1.0)
