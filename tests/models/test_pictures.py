"""Pictures of every kind as RGB, and the buckets of lengths."""

import errno
import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from asg_jax.errors import UserError
from asg_jax.models import pictures
from asg_jax.models.pictures import (
    Unreachable,
    Unreadable,
    bucket,
    open_picture,
    read_picture,
    to_array,
    to_picture,
    to_rgb,
)

WHITE = (255, 255, 255)


def rgb_of(picture):
    """The RGB values of a picture's first row."""
    rgb = to_rgb(picture)
    assert rgb.mode == "RGB" and rgb.size == picture.size
    return [tuple(values) for values in np.asarray(rgb)[0].tolist()]


def saved(picture, **options):
    """The picture as it is read back from a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return Image.open(file)


def row_of(mode, *values):
    picture = Image.new(mode, (len(values), 1))
    picture.putdata(values)
    return picture


def palette(*values):
    """A picture whose colours are (10, 20, 30) and (40, 50, 60)."""
    picture = row_of("P", *values)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    return picture


def test_transparent_pixels_are_white():
    """Whatever colour they hide; half transparent ones are mixed with white."""
    red, half, clear = (255, 0, 0, 255), (255, 0, 0, 128), (255, 0, 0, 0)
    assert rgb_of(row_of("RGBA", red, half, clear)) == [(255, 0, 0), (255, 127, 127), WHITE]
    gray = [(0, 0, 0), (127, 127, 127), WHITE]
    assert rgb_of(row_of("LA", (0, 255), (0, 128), (0, 0))) == gray


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_transparent_palette_colours_are_white(transparency):
    picture = saved(palette(0, 1), transparency=transparency)
    assert picture.mode == "P"
    assert rgb_of(picture) == [WHITE, (40, 50, 60)]


@pytest.mark.parametrize(
    ("mode", "values", "clear"),
    [("L", (7, 90), 7), ("RGB", ((7, 7, 7), (90, 90, 90)), (7, 7, 7))],
)
def test_a_transparent_colour_is_white(mode, values, clear):
    assert rgb_of(saved(row_of(mode, *values), transparency=clear)) == [WHITE, (90, 90, 90)]


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (row_of("1", 0, 255), [(0, 0, 0), WHITE]),
        (row_of("L", 3, 200), [(3, 3, 3), (200, 200, 200)]),
        (palette(1, 0), [(40, 50, 60), (10, 20, 30)]),
        (row_of("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)), [(255, 0, 0), (0, 0, 0)]),
        (row_of("YCbCr", (200, 128, 128)), [(200, 200, 200)]),
        (row_of("RGB", (1, 2, 3)), [(1, 2, 3)]),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_opaque_pictures_keep_their_colours(picture, expected):
    assert rgb_of(picture) == expected


def test_arrays_hold_every_8_bit_value_exactly():
    """From 0 to 1, and back without loss."""
    values = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    array = to_array(to_picture(values))
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, values / 255, rtol=1e-7)
    np.testing.assert_array_equal(array * np.float32(255), values)


@given(st.integers(0, 100_000))
def test_buckets_hold_the_length_and_waste_little(length):
    """Powers of two from 8 on and one between each two of them; beyond 256, seven between."""
    size = bucket(length)
    assert size >= length and size >= 8 and bucket(size) == size
    odd = size // (size & -size)
    if size <= 256:
        assert size == 8 or length > size * 2 // 3
        assert odd in (1, 3)
    else:
        assert length > size * 8 // 9
        assert odd < 16


def test_16_bit_pictures_keep_their_upper_bits():
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    picture = saved(Image.fromarray(values))
    assert [r for r, _, _ in rgb_of(picture)] == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("form", ["jpeg", "webp", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_viewers_show_them(tmp_path, form, orientation):
    """A quarter of the picture is red: where the eight orientations of EXIF put it."""
    stored = Image.new("RGB", (64, 32), (0, 0, 255))
    stored.paste((255, 0, 0), (0, 0, 32, 16))  # first rows, first columns
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{form}"
    stored.save(path, form, exif=exif, **({"quality": 95} if form != "png" else {}))
    shown = open_picture(path)
    assert shown.size == ((64, 32) if orientation < 5 else (32, 64))
    # Where the first row and column are shown, by the standard: CIPA DC-008, orientation.
    below, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    corner = (shown.width - 4 if right else 3, shown.height - 4 if below else 3)
    opposite = (3 if right else shown.width - 4, 3 if below else shown.height - 4)
    pixels = np.asarray(shown)
    assert pixels[corner[::-1]][0] > 200 and pixels[opposite[::-1]][2] > 200
    assert to_rgb(shown).size == shown.size  # not turned twice
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(to_rgb(picture)), pixels)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_hide_a_picture(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_picture(tmp_path / "a.jpg").size == (8, 8)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 20, 255]], np.float32), [0, 20, 255]),
        (np.array([[0, 256, 65535]], np.float32), [0, 1, 255]),
        (np.array([[0, 1, 255]], np.int32), [0, 1, 255]),
        (np.array([[0, 256, 65535]], np.int32), [0, 1, 255]),
    ],
)
def test_deep_pictures_are_scaled_instead_of_clipped(tmp_path, values, levels):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.asarray(open_picture(tmp_path / "a.tiff"))[0, :, 0].tolist() == levels


@pytest.mark.parametrize("value", [-1.0, 1e6, np.nan, np.inf])
def test_values_without_meaning_are_refused(tmp_path, value):
    Image.fromarray(np.array([[0, value]], np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match="no brightness"):
        open_picture(tmp_path / "a.tiff")


def test_pictures_too_large_to_be_meant_are_refused(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="9000 x 9000 pixels are too many"):
        open_picture(tmp_path / "a.png")
    Image.new("1", (20000, 20000)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="too many pixels"):
        open_picture(tmp_path / "b.png")


def test_only_decoders_of_pictures_see_a_file(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    for name in ("a.eps", "missing.png", ""):
        with pytest.raises(UserError, match="no readable picture|does not exist"):
            open_picture(tmp_path / name)
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    assert open_picture("~/b.png").size == (8, 8)


@pytest.mark.parametrize("fault", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_the_file_system_refuses_is_not_the_files_fault(tmp_path, monkeypatch, fault):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def refuse(*arguments, **options):
        raise OSError(fault, os.strerror(fault), "a.png")

    monkeypatch.setattr(pictures.Image, "open", refuse)
    with pytest.raises(Unreachable, match=os.strerror(fault)):
        read_picture(tmp_path / "a.png")


def test_damage_is_the_files_fault(tmp_path):
    Image.effect_noise((64, 64), 9).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    with pytest.raises(Unreadable) as told:
        read_picture(tmp_path / "a.jpg")
    assert not isinstance(told.value, Unreachable)
