"""Encoded images to tensors: every accepted form, and each kind of image that is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features

from distill.data.decode import decode, stack
from distill.errors import DataError


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def colours(h: int = 5, w: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8)


def png_header(w: int, h: int) -> bytes:
    """The beginning of a PNG that claims to be large: a bomb, as far as its size can be told."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind, options", [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_forms_give_the_pixels(kind, options):
    assert np.array_equal(decode(encode(Image.fromarray(colours()), kind, **options)), colours())


def test_jpeg_is_near():
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    assert np.abs(decode(encode(Image.fromarray(smooth), "JPEG")).astype(int) - smooth).max() < 4


def test_grey_stays_grey_and_transparency_is_dropped():
    grey = colours()[:, :, 0]
    assert np.array_equal(decode(encode(Image.fromarray(grey))), grey)
    with_alpha = np.dstack((colours(), np.full((5, 4), 9, np.uint8)))
    assert np.array_equal(decode(encode(Image.fromarray(with_alpha))), colours())
    assert decode(encode(Image.fromarray(grey > 100))).tolist() == ((grey > 100) * 255).tolist()


def test_a_palette_becomes_rgb():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([1, 0])
    assert decode(encode(image)).tolist() == [[[40, 50, 60], [10, 20, 30]]]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not a PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF or HEIC image"),
        (b"%PDF-1.7 nothing", "not a PNG, JPEG"),
        (encode(Image.fromarray(colours(64, 64)))[:-2000], "damaged image"),
        (encode(Image.fromarray(colours(64, 64)), "JPEG")[:700], "damaged image"),
        (png_header(8192, 8193), "8192x8193 image, more than 64 million pixels"),
        (png_header(12000, 12000), "more than 64 million pixels"),
        (png_header(60000, 60000), "more than 64 million pixels"),
        (encode(Image.fromarray(np.zeros((4, 4), np.uint16))), "not 8 bits a channel"),
    ],
    ids=["empty", "pdf", "cut png", "cut jpeg", "large", "bomb warning", "bomb error", "16 bit"],
)
def test_refused_images_say_why(data, message, recwarn):
    with pytest.raises(DataError, match=message):
        decode(data)


@pytest.mark.parametrize("kind, options", [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("DIB", {})])
def test_other_lossless_forms_give_the_pixels(kind, options):
    assert np.array_equal(decode(encode(Image.fromarray(colours()), kind, **options)), colours())


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_the_first_of_several_frames_or_pages_is_taken(kind):
    frames = [Image.fromarray(np.full((6, 5), value, np.uint8)) for value in (10, 200)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 2 and np.unique(decode(data)).tolist() == [10]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_near():
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    assert np.abs(decode(encode(Image.fromarray(smooth), "AVIF")).astype(int) - smooth).max() < 8


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_heic_without_its_plugin_names_the_fix(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"HEIC image: `pip install 'stillhouse\[heic\]'` to read it, or convert it"):
        decode(HEIC)


def test_heic_is_read_by_its_plugin():
    heif = pytest.importorskip("pillow_heif")
    smooth, out = np.full((64, 64, 3), (200, 100, 50), np.uint8), io.BytesIO()
    heif.from_pillow(Image.fromarray(smooth)).save(out)
    assert np.abs(decode(out.getvalue()).astype(int) - smooth).max() < 8


@pytest.mark.parametrize("w, h", [(1000, 50), (17, 1), (20000, 40)])
def test_long_images_are_cut_down_to_their_centre_and_noted(w, h):
    columns = np.tile(np.where(np.abs(np.arange(w) - (w - 1) / 2) < h / 2, 90, 250).astype(np.uint8), (h, 1))
    notes = []
    assert decode(encode(Image.fromarray(columns)), 8, "shorter", notes.append).tolist() == [[90] * 8] * 8
    assert notes == [f"{w}x{h}"]
    assert decode(encode(Image.fromarray(columns)), 8, "stretch").shape == (8, 8)


def test_long_images_are_no_bombs():
    notes = []
    assert (
        decode(encode(Image.new("L", (20000, 2000), 90), "JPEG"), 8, "shorter", notes.append).tolist() == [[90] * 8] * 8
    )
    assert notes == []


def test_a_long_jpeg_is_named_by_its_own_size():
    notes = []
    decode(encode(Image.new("RGB", (2000, 100)), "JPEG"), 16, "shorter", notes.append)
    assert notes == ["2000x100"]


def test_photographs_of_a_camera_are_not_too_large():
    assert decode(encode(Image.new("L", (6000, 4000), 77), "JPEG"), size=8).tolist() == [[77] * 8] * 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright_as_a_viewer_shows_them(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(colours()), "PNG", exif=exif)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(data), np.asarray(shown))


def test_an_orientation_that_makes_no_sense_is_none():
    exif = Image.Exif()
    exif[0x0112] = 99
    assert np.array_equal(decode(encode(Image.fromarray(colours()), "PNG", exif=exif)), colours())
    assert np.array_equal(decode(encode(Image.fromarray(colours()), "PNG", exif=b"Exif\0\0junk")), colours())


def test_stack_is_channels_first():
    image = colours()
    assert torch.equal(stack([image, image], rgb=True)[1], torch.from_numpy(image).permute(2, 0, 1))


def test_grey_images_fill_all_channels_beside_rgb():
    grey = colours()[:, :, 0]
    out = stack([colours(), grey], rgb=True)
    assert out.shape == (2, 3, 5, 4) and torch.equal(out[1], torch.from_numpy(grey.copy()).expand(3, 5, 4))
    assert stack([grey], rgb=False).shape == (1, 1, 5, 4)
