"""Pictures as the towers of Qwen2-VL and Qwen2.5-VL read them."""

from __future__ import annotations

import math

import numpy as np
from einops import rearrange, repeat
from jaxtyping import Array, Float

from asg_jax.errors import UserError
from asg_jax.models.layers.qwen.config import Pixels
from asg_jax.models.layers.qwen.vision import VisionConfig

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # of CLIP
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def resized(height: int, width: int, side: int, bounds: Pixels) -> tuple[int, int]:
    """Size (height, width) that the tower reads a picture in: multiples of `side`.

    Sides are rounded half to even; a picture that is then too large or too small is scaled from
    its first size, rounded towards the bound.

    Raises:
      UserError: a side is shorter than `side`, or one is over 200 times as long as the other.
    """
    if min(height, width) < side or max(height, width) > 200 * min(height, width):
        raise UserError(
            f"a picture of {width} x {height} pixels is too small or too narrow; both sides need "
            f"{side} pixels at least and the ratio may be 200 at most."
        )
    rounded = round(height / side) * side, round(width / side) * side
    if math.prod(rounded) > bounds.most:
        beta = math.sqrt(height * width / bounds.most)
        shrunk = lambda n: math.floor(n / beta / side) * side
        return shrunk(height), shrunk(width)
    if math.prod(rounded) < bounds.least:
        beta = math.sqrt(bounds.least / (height * width))
        enlarged = lambda n: math.ceil(n * beta / side) * side
        return enlarged(height), enlarged(width)
    return rounded


def patches(
    pixels: Float[Array | np.ndarray, "*batch H W 3"], config: VisionConfig
) -> Float[Array | np.ndarray, "*batch N P"]:
    """Values in [0, 1] to normalised patches, each (channel, frame, row, column).

    Patches that the tower merges follow each other; all frames are the same picture.
    """
    cut = rearrange(
        (pixels - MEAN) / STD,
        "... (h m p) (w n q) c -> ... (h w m n) c p q",
        m=config.merge,
        n=config.merge,
        p=config.patch,
        q=config.patch,
    )
    still = repeat(cut, "... c p q -> ... c frames p q", frames=config.frames)
    return still.reshape(*still.shape[:-4], -1)
