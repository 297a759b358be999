"""Pillow pictures to arrays: what every processor does alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from asg_jax.errors import UserError


def open_picture(path: Path) -> Image.Image:
    """The decoded picture of a file, RGB.

    Raises:
      UserError: the file is missing, damaged, no picture, or too large to be meant.
    """
    try:
        with Image.open(path) as picture:
            return to_rgb(picture)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a picture file.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no readable picture ({error}); try another file.") from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """RGB, transparent pixels on white."""
    if picture.mode.startswith("I;16"):  # convert() would clip at 255 instead of scaling
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return picture.convert("RGB")


def to_array(picture: Image.Image) -> Float[np.ndarray, "H W 3"]:
    """Values in [0, 1]."""
    return np.asarray(picture, np.float32) / np.float32(255)


def to_picture(pixels: UInt8[np.ndarray, "H W 3"]) -> Image.Image:
    """An RGB picture of 8-bit values."""
    return Image.fromarray(np.asarray(pixels))


def bucket(length: int) -> int:
    """The smallest of 8, 12, 16, 24, 32, 48, ... that holds `length`.

    Padding to few lengths keeps the number of compiled programs small.
    """
    size = 8
    while size < length:
        if size * 3 // 2 >= length:
            return size * 3 // 2
        size *= 2
    return size
