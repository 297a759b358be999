"""Rectified flow: time grid, guidance and sampling steps.

Convention: x_t = (1 - t) data + t noise, velocity = noise - data, t = 1 is pure noise.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from asg_jax.backbone import Sampler


def time_grid(steps: int, shift: float) -> Float[np.ndarray, " steps_and_end"]:
    """Times from 1 to 0 (float32), t = shift s / (1 + (shift - 1) s) of an even grid s."""
    s = np.linspace(1, 0, steps + 1, dtype=np.float32)
    return np.float32(shift) * s / (1 + np.float32(shift - 1) * s)


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


def euler_step(
    x: Float[Array, "*batch L C"],
    velocity: Float[Array, "*batch L C"],
    t: Float[Array, ""],
    t_next: Float[Array, ""],
) -> Float[Array, "*batch L C"]:
    """One deterministic step of the flow from t down to t_next."""
    return x - velocity * (t - t_next)


def _renorm(guided: Array, main: Array, axes: tuple[int, ...], low: float) -> Array:
    norm = lambda x: jnp.sqrt(jnp.sum(x * x, axes, keepdims=True))
    return guided * jnp.clip(norm(main) / (norm(guided) + 1e-8), low, 1.0)
