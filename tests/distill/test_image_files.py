"""Files of tiles: what is read back, 16-bit PNG by a decoder written here, dpi, and seams that no encoder opens."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from support.tori import torus

from distill.data.decode import decode_picture
from distill.errors import DataError
from distill.image_files import FORMATS, QUALITIES, SUFFIXES, animate, closed, encode
from distill.lanczos import MEAN, resize
from distill.seam import Seam, seam

TORI = {
    "rough": lambda: torus(192, 192, 0),
    "odd sides": lambda: torus(200, 205, 1),
    "smooth": lambda: torus(512, 512, 2),
    "enlarged": lambda: resize(torus(128, 128, 1), (512, 512), shift=MEAN).clamp(0, 1),
    "grey": lambda: torus(128, 128, 1, channels=1),
}


def png16(data: bytes) -> np.ndarray:
    """(h, w, c) uint16 of a PNG, by the specification; checksums are checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + body)
        chunks[name] = chunks.get(name, b"") + body
        at += 12 + length
    w, h, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert depth == 16 and rest == [0, 0, 0] and list(chunks)[0] == b"IHDR" and list(chunks)[-1] == b"IEND"
    c = {0: 1, 2: 3}[colour]
    raw, above, rows = zlib.decompress(chunks[b"IDAT"]), [0] * (2 * c * w), []
    stride = 1 + 2 * c * w
    assert len(raw) == h * stride
    for row in range(h):
        kind, line = raw[row * stride], list(raw[row * stride + 1 : (row + 1) * stride])
        assert kind in (0, 2)
        above = [(value + up) % 256 for value, up in zip(line, above, strict=True)] if kind == 2 else line
        rows.append(above)
    values = np.array(rows, np.uint16).reshape(h, w, c, 2)
    return values[..., 0] * 256 + values[..., 1]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_16_bit_png_holds_every_value_to_the_nearest_of_65536(channels):
    x = torch.rand(channels, 7, 5, dtype=torch.float64).float()
    x[:, 0, 0], x[:, 0, 1], x[:, 6, 4] = 0, 1, 0.5
    read = png16(encode(x, "png16", dpi=300))
    assert np.abs(read / 65535 - x.permute(1, 2, 0).double().numpy()).max() <= 0.5 / 65535 + 1e-9
    assert (read[0, 0] == 0).all() and (read[0, 1] == 65535).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_reads_a_16_bit_png(channels):
    x = torus(20, 30, channels=channels)
    read = decode_picture(encode(x, "png16"))
    assert read.shape == x.shape and (read - x).abs().max() < (1 / 255 if channels == 3 else 1 / 65000)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_lossless_files_hold_the_nearest_of_256_levels(kind):
    x = torus(20, 30)
    assert torch.equal(decode_picture(encode(x, kind)), (x * 255).round() / 255)


@pytest.mark.parametrize("kind, most", [("jpeg", 0.03), ("webp-lossy", 0.0085)])
def test_lossy_files_are_near(kind, most):
    x = torus(64, 64, 1.5)
    data = encode(x, kind)
    assert (decode_picture(data) - x).abs().mean() < most
    assert len(data) < len(encode(x, "png"))


@pytest.mark.parametrize("kind", FORMATS)
def test_values_outside_are_clamped(kind):
    x = torch.full((3, 16, 16), -1.0)
    x[:, :, 8:] = 3
    read = decode_picture(encode(x, kind))
    assert (read[:, :, :8] < 0.02).all() and (read[:, :, 8:] > 0.98).all()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", TORI)
def test_no_encoder_opens_the_seam(name, kind):
    x = TORI[name]()
    assert seam(x).seamless, seam(x)
    assert seam(decode_picture(encode(x, kind))).seamless


@pytest.mark.parametrize("options", [{"format": "JPEG", "quality": 95}, {"format": "WEBP", "quality": 95}])
def test_ordinary_lossy_files_do_open_it(options):
    buffer = io.BytesIO()
    x = TORI["enlarged"]()
    Image.fromarray(x.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()).save(buffer, **options)
    assert not seam(decode_picture(buffer.getvalue())).seamless


def test_a_jpeg_of_whole_blocks_is_the_middle_of_a_padded_one():
    x = torus(64, 48)
    padded = torch.cat([x[:, -16:], x, x[:, :16]], 1)
    padded = torch.cat([padded[:, :, -16:], padded, padded[:, :, :16]], 2)
    plain, large = (
        Image.fromarray((t * 255).round().byte().permute(1, 2, 0).contiguous().numpy()) for t in (x, padded)
    )
    read = []
    for image in (plain, large):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95, subsampling=0)
        read.append(decode_picture(buffer.getvalue()))
    assert torch.equal(read[0], read[1][:, 16:-16, 16:-16])


def test_an_edge_that_does_not_wrap_does_not_raise_the_quality():
    x = torus(96, 96, 2)[:, :70]  # a line at the bottom, and seams within a tenth of what they were
    assert len(encode(x, "jpeg", wraps=(False, False))) <= len(encode(x, "jpeg", wraps=(False, True)))
    assert QUALITIES[-1] == 100


def test_closed_means_within_the_limits_or_near_what_it_was():
    before = Seam(1.0, 3.0, 1.0, 3.0)
    both = (True, True)
    assert closed(Seam(1.1, 3.1, 0.9, 2.8), before, both) and not closed(Seam(1.1, 3.4, 0.9, 2.8), before, both)
    assert not closed(Seam(1.25, 3.0, 1.0, 3.0), before, both)
    assert closed(Seam(1.25, 3.0, 1.0, 3.0), before, (True, False))  # only from bottom to top
    assert closed(Seam(1.0, 9.0, 1.0, 9.0), before, (False, True))


def test_the_resolution_is_in_the_file():
    x = torus(16, 16)
    for kind in FORMATS:
        with Image.open(io.BytesIO(encode(x, kind, dpi=254))) as image:
            found = image.getexif()[0x011A] if "webp" in kind else image.info["dpi"][0]
            assert found == pytest.approx(254, abs=0.02)
        with Image.open(io.BytesIO(encode(x, kind))) as image:
            assert 0x011A not in image.getexif()
            assert kind == "jpeg" or "dpi" not in image.info


@pytest.mark.parametrize("x", [torch.full((3, 8, 8), 0.4), torch.rand(3, 2, 2)])
@pytest.mark.parametrize("kind", FORMATS)
def test_what_has_no_seam_is_written_all_the_same(x, kind):
    assert decode_picture(encode(x, kind)).shape == x.shape


def test_other_channels_are_refused():
    with pytest.raises(DataError, match="1 or 3 channels"):
        encode(torch.zeros(4, 8, 8), "png")


@pytest.mark.parametrize("kind", ["webp", "webp-lossy"])
def test_what_is_too_long_for_webp_is_refused(kind):
    assert encode(torch.rand(1, 4, 16383), kind)
    with pytest.raises(DataError, match="at most 16383 pixels a side"):
        encode(torch.rand(1, 4, 16384), kind)


def test_every_format_has_a_suffix_of_its_own():
    assert SUFFIXES.keys() == FORMATS.keys() and len({*SUFFIXES.values()}) == len(FORMATS)


def test_an_animation_has_its_frames_in_order():
    frames = [Image.new("RGB", (32, 24), (40 * k, 0, 0)) for k in range(5)]
    with Image.open(io.BytesIO(animate(frames))) as image:
        assert image.n_frames == 5 and image.size == (32, 24)
        for k in range(5):
            image.seek(k)
            assert abs(image.convert("RGB").getpixel((5, 5))[0] - 40 * k) < 8
