"""Pillow pictures to arrays: what every processor does alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from asg_jax.errors import UserError
from asg_jax.models.places import place

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # no other decoder ever sees a file
MAX_PIXELS = 64_000_000  # a picture of more is a mistake or a decompression bomb
LONGEST = 2048  # pixels along a side; no model looks at more
UPRIGHT = 1  # the orientation of EXIF that needs no turning


class Unreadable(Exception):
    """A file is no picture to be used; the message is the reason."""


class Unreachable(Unreadable):
    """The file system did not give it; it may the next time."""


def open_picture(path: str | Path) -> Image.Image:
    """The decoded picture of a file that a user names, RGB.

    Raises:
      UserError: the file is missing, damaged, no picture, or too large to be meant.
    """
    path = place(path)
    try:
        return read_picture(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a picture file.") from error
    except Unreadable as error:
        raise UserError(f"{path} is no readable picture ({error}); try another file.") from error


def read_picture(
    path: Path, side: int = LONGEST, formats: tuple[str, ...] = FORMATS
) -> Image.Image:
    """The decoded picture of a file as viewers show it, RGB.

    Args:
      path: the file.
      side: a picture with a longer side is shrunk to it, right where it is decoded.
      formats: Pillow's names of those that are opened.

    Raises:
      Unreadable: whatever is wrong with the file.
      FileNotFoundError: there is none.
    """
    with opened(path, formats) as picture:
        if max(picture.size) > side:  # a JPEG decodes to a half, quarter or eighth at no cost
            scale = side / max(picture.size)
            picture.draft("RGB", (ceil(picture.width * scale), ceil(picture.height * scale)))
        rgb = to_rgb(picture)
        rgb.thumbnail((side, side))
        return rgb


@contextmanager
def opened(path: Path, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """A picture file that is not decoded yet; faults that show while it is used get a reason.

    Raises:
      Unreadable: whatever is wrong with the file.
      FileNotFoundError: there is none.
    """
    try:
        if not path.is_file() and path.exists():  # a folder, or a pipe that would block
            raise Unreadable("not a file")
        with Image.open(path, formats=formats) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Unreadable(f"{picture.width} x {picture.height} pixels are too many")
            if picture.format == "PNG":
                picture.verify()  # its checksums, which decoding does not look at
        with Image.open(path, formats=formats) as picture:
            yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("too many pixels") from error
    except UnidentifiedImageError as error:
        raise Unreadable("empty" if path.stat().st_size == 0 else "no such picture") from error
    except (Unreadable, FileNotFoundError):
        raise
    except OSError as error:
        # The text of a system's error names the file again; a decoder's says what is damaged.
        kind = Unreachable if error.errno else Unreadable
        raise kind(error.strerror or str(error)) from error
    except Exception as error:  # on damaged bytes decoders raise nearly anything
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """RGB as viewers show it: turned by its EXIF orientation, transparent pixels on white.

    Raises:
      ValueError: its numbers are no brightness.
    """
    picture = _levels(_upright(picture))
    if "A" in picture.getbands() or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return picture.convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        if picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT) == UPRIGHT:
            return picture
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF raises nearly anything; viewers pass over it
        return picture


def _levels(picture: Image.Image) -> Image.Image:
    """8 bits of the modes that have more, whose values `convert` would clip."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        top = 65535
    else:
        top = next((top for top in (1, 255, 65535) if values.max() <= top), 0)
        top = 255 if picture.mode == "I" and top == 1 else top
        if not (top and values.min() >= 0):  # also NaN
            raise ValueError(f"values from {values.min()} to {values.max()} are no brightness")
    if top == 65535:
        values = values.astype(np.int32) >> 8
    return Image.fromarray((values * (255 if top == 1 else 1)).round().astype(np.uint8))


def to_array(picture: Image.Image) -> Float[np.ndarray, "H W 3"]:
    """Values in [0, 1]."""
    return np.asarray(picture, np.float32) / np.float32(255)


def to_picture(pixels: UInt8[np.ndarray, "H W 3"]) -> Image.Image:
    """An RGB picture of 8-bit values."""
    return Image.fromarray(np.asarray(pixels))


def bucket(length: int) -> int:
    """The smallest of 8, 12, 16, 24, ..., 192, 256, 288, 320, ... that holds `length`.

    Padding to few lengths keeps the number of compiled programs small. Beyond 256 there are eight
    from power to power of two, because there every row costs time.
    """
    power = 8
    while power < length:
        power *= 2
    step = power // 16 if power > 256 else power // 4
    return max(8, -(-length // step) * step)
