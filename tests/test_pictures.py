"""A user's own picture, from real files of every kind that people upload, and those that they should not."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageDraw

from diffusion_explained.data import load_image, pictures, to_float


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def digit() -> Image.Image:
    """A 28 x 28 grey picture without symmetry."""
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).line([(6, 4), (20, 4), (10, 24)], fill=255, width=3)
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds nothing: decoding it would need all its memory first."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("how", ["bytes", "file", "path", "string"])
def test_a_digit_passes_unchanged(how, tmp_path):
    data = encoded(digit())
    path = tmp_path / "digit.png"
    path.write_bytes(data)
    file = {"bytes": data, "file": io.BytesIO(data), "path": path, "string": str(path)}[how]
    said = []
    x_0 = load_image(file, 28, 1, say=said.append)
    assert x_0.shape == (1, 1, 28, 28) and x_0.dtype == torch.float32
    assert torch.equal(x_0, to_float(torch.from_numpy(np.array(digit())))[None, None])
    assert said == []


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_formats(format):
    image = Image.new("RGB", (64, 64), (255, 0, 0))
    x_0 = load_image(encoded(image, format), (32, 32), 3)
    assert x_0.shape == (1, 3, 32, 32)
    assert torch.allclose(x_0.mean((0, 2, 3)), torch.tensor([1.0, -1.0, -1.0]), atol=0.05)


def test_grey_and_colour():
    red = encoded(Image.new("RGB", (28, 28), (255, 0, 0)))
    assert torch.allclose(load_image(red, 28, 1), torch.tensor(76 / 127.5 - 1)), "luma 0.299 of red"
    grey = load_image(encoded(digit()), 28, 3)
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])


def test_palette_cmyk_bilevel_and_16_bit():
    assert torch.equal(load_image(encoded(digit().convert("P")), 28, 1), load_image(encoded(digit()), 28, 1))
    cmyk = Image.new("RGB", (28, 28), (0, 255, 0)).convert("CMYK")
    assert load_image(encoded(cmyk, "JPEG"), 28, 3)[0, 1].mean() > 0.9
    bilevel = load_image(encoded(digit().point(lambda v: 255 * (v > 99)).convert("1")), 28, 1)
    assert set(bilevel.unique().tolist()) == {-1.0, 1.0}
    ramp = np.linspace(0, 65535, 28 * 28).astype(np.uint16).reshape(28, 28)
    said = []
    deep = load_image(encoded(Image.fromarray(ramp)), 28, 1, say=said.append)
    assert said == ["16 bits of grey were reduced to 8."]
    assert torch.allclose(deep.flatten(), torch.linspace(-1, 1, 28 * 28), atol=0.01), "scaled, not clipped"


def test_transparency_is_laid_on_black_and_said():
    image = Image.new("RGBA", (28, 28), (255, 255, 255, 0))  # invisible white
    ImageDraw.Draw(image).rectangle([10, 10, 17, 17], fill=(255, 255, 255, 255))
    said = []
    x_0 = load_image(encoded(image), 28, 1, say=said.append)
    assert said == ["Transparent parts were laid on black."]
    assert x_0[0, 0, 0, 0] == -1 and x_0[0, 0, 14, 14] == 1
    half = Image.new("LA", (28, 28), (255, 128))
    assert torch.allclose(load_image(encoded(half), 28, 1), torch.tensor(0.0), atol=0.02)
    palette = Image.new("P", (28, 28), 0)
    palette.putpalette([255, 255, 255, 0, 0, 0])
    assert load_image(encoded(palette, transparency=0), 28, 1).max() == -1
    opaque = []
    load_image(encoded(digit().convert("RGBA")), 28, 1, say=opaque.append)
    assert opaque == [], "an alpha channel that hides nothing is not worth a sentence"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation):
    """Cameras store the picture as the sensor lay; every one of the eight ways gives the upright digit back."""
    turned = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }[orientation]  # fmt: skip
    stored = digit()
    for turn in turned:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    said = []
    x_0 = load_image(encoded(stored, exif=exif), 28, 1, say=said.append)
    assert torch.equal(x_0, load_image(encoded(digit()), 28, 1))
    assert len(said) == (orientation != 1)


@pytest.mark.parametrize("shape", [(60, 30), (30, 60)])
def test_crop_and_pad(shape):
    """A white middle square, grey at both ends of the long side."""
    image = Image.new("L", shape, 128)
    ImageDraw.Draw(image).rectangle(
        [(shape[0] - 30) // 2, (shape[1] - 30) // 2, (shape[0] + 30) // 2 - 1, (shape[1] + 30) // 2 - 1], fill=255
    )
    said = []
    cropped = load_image(encoded(image), 30, 1, say=said.append)
    assert cropped.min() == 1, "only the middle is left"
    assert f"{shape[0]} x {shape[1]}" in said[0] and "middle was kept" in said[0]

    padded = load_image(encoded(image), 60, 1, fit="pad", say=said.append)[0, 0]
    if shape[0] < shape[1]:
        padded = padded.T
    assert (padded[:13] == -1).all() and (padded[47:] == -1).all(), "black above and below"
    assert padded[30, 30] == 1 and abs(padded[30, 2]) < 0.02, "and everything in between"
    assert "filled up with black" in said[1]


def test_other_shapes_than_squares():
    assert load_image(encoded(Image.new("L", (100, 100), 255)), (20, 40), 1).shape == (1, 1, 20, 40)
    line = load_image(encoded(Image.new("L", (5000, 1), 255)), 28, 1)
    assert line.shape == (1, 1, 28, 28) and line.min() == 1


def test_invert():
    said = []
    paper = load_image(encoded(digit().point(lambda v: 255 - v)), 28, 1, invert=True, say=said.append)
    assert torch.equal(paper, load_image(encoded(digit()), 28, 1)) and said == ["Black and white were swapped."]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "The file is empty"),
        (b"x^2 + y^2 = 1\n" * 100, r"not a picture that can be read\. Allowed are PNG, JPEG, WEBP, GIF, BMP"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing, .*Export it as"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document, not a picture.*Export its page as PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heic", "a HEIC photograph, not a picture.*Export it as JPEG"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture of an unknown or damaged kind.*Export it as"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a film, not a picture"),
        (encoded(digit(), "TIFF"), "a TIFF or a camera's raw picture.*Export the page that you mean"),
        (encoded(digit(), "TIFF", save_all=True, append_images=[digit()]), "a TIFF"),
        (encoded(Image.new("F", (8, 8), 0.5), "TIFF"), "a TIFF"),
        (encoded(digit(), "ICO"), "an icon"),
        (b"PK\x03\x04\x14\0", "an archive"),
        (b"\xff\x0a\x80\x11", "a JPEG XL picture"),
        (b"A letter, renamed to .png: gr\xc3\xbc\xc3\x9fe\n", "a text, not a picture"),
        (bytes(range(256)), "not a picture that can be read"),
        (encoded(digit())[:80], "cut short"),
        (encoded(Image.effect_noise((200, 200), 60), "JPEG")[:3000], "cut short"),
        (encoded(digit())[:20], "not a picture|header is damaged"),
        (png_header(20_000, 10), "20,000 x 10 pixels; allowed are 10,000 per side"),
        (png_header(9_000, 9_000), r"9,000 x 9,000 pixels; .* 40,000,000 in all"),
        (png_header(60_000, 60_000), "far too many pixels"),
        (png_header(28, 28), "cut short or damaged"),
    ],
    ids=["empty", "text", "svg", "pdf", "heic", "avif", "film", "tiff", "pages", "float", "icon",
         "archive", "jxl", "letter", "bytes", "cut", "cut jpeg", "cut header", "wide", "large", "bomb", "hollow"],
)  # fmt: skip
def test_refused(data, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_image(data, 28, 1)


def test_a_real_20000_pixel_picture_is_refused():
    with pytest.raises(ValueError, match=r"20,000 x 3 pixels"):
        load_image(encoded(Image.new("L", (20_000, 3))), 28, 1)


@pytest.fixture
def never_decoded(monkeypatch):
    """A picture that is refused must be refused by its header."""
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))


def jpeg_header(width: int, height: int, *, scan: bytes = b"\1\2\3", frame: int = 0xC0, sampled: int = 0x22) -> bytes:
    """A JPEG of three components up to its first scan, which holds the components of `scan`; sampled: the first's."""

    def segment(marker: int, data: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data

    components = b"".join(bytes((k, sampled if k == 1 else 0x11, 0)) for k in (1, 2, 3))
    of_frame = segment(frame, struct.pack(">BHHB", 8, height, width, 3) + components)
    of_scan = bytes((len(scan),)) + b"".join(bytes((k, 0)) for k in scan) + b"\0\x3f\0"
    return b"\xff\xd8" + segment(0xDB, bytes(65)) + b"\xff" + of_frame + segment(0xDA, of_scan) + bytes(20)


@pytest.mark.parametrize("orientation, progressive", [(1, True), (6, False)])
def test_a_large_photograph_from_a_phone_is_read_at_a_fraction_of_its_size(orientation, progressive):
    """48 megapixels, more than any other format may have; sizes are those after the turn."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.new("RGB", (8000, 6000), (200, 40, 40))
    stored.paste((40, 40, 200), (0, 0, 2000, 6000))
    data, said = encoded(stored, "JPEG", exif=exif, progressive=progressive), []
    size = (6000, 8000) if orientation == 1 else (8000, 6000)
    assert pictures.picture_size(data) == size
    x_0 = load_image(data, 32, 3, fit="pad", say=said.append)[0]
    assert f"is {size[1]} x {size[0]}," in said[-1]
    dark = x_0[0, 16, 2] if orientation == 1 else x_0[0, 2, 16]  # the left quarter, which the turn puts on top
    assert dark < -0.6 < 0.5 < x_0[0, 16, 24 if orientation == 1 else 16]


@pytest.mark.parametrize(
    "data, size, words",
    [
        (png_header(6000, 8000), 32, "The picture is 6,000 x 8,000 pixels; allowed .* 40,000,000 in all. Make it sm"),
        (jpeg_header(13_000, 10_000), 32, "13,000 x 10,000 pixels; allowed are 20,000 per side and 120,000,000 in all"),
        (jpeg_header(8000, 6000), 4096, "would take 192 MB of memory at the size that is needed here; allowed are 160"),
        (jpeg_header(10_000, 9000, frame=0xC2), 32, "would take 276 MB of memory because .* several passes; .*progres"),
        (
            jpeg_header(8000, 6000, scan=b"\1", sampled=0x11),
            32,
            "would take 300 MB of memory because .*make it smaller",
        ),
    ],
    ids=["png", "jpeg", "needed large", "progressive", "one colour at a time"],
)
@pytest.mark.usefixtures("never_decoded")
def test_a_large_picture_that_takes_too_much_memory_is_refused_by_its_header(data, size, words):
    with pytest.raises(ValueError, match=words):
        load_image(data, size, 3)


@pytest.mark.parametrize("cut", range(60, 130, 7))
def test_a_large_header_that_is_damaged_ends_in_words(cut):
    for data in (jpeg_header(8000, 6000)[:cut], jpeg_header(8000, 6000)[:cut] + bytes(100)):
        with pytest.raises(ValueError, match=r"cut short|damaged|not a picture|would take"):
            load_image(data, 32, 3)


@pytest.mark.usefixtures("never_decoded")
def test_a_bomb_is_refused_before_it_is_decoded():
    """10,000 x 9,999 zeros are 300 kB as a file and 300 MB as pixels; load() must never be reached."""
    bomb = png_header(10_000, 9_999)
    with pytest.raises(ValueError, match="40,000,000 in all"):
        load_image(bomb, 28, 1)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken_and_said(format):
    frames = [Image.new("RGB", (28, 28), (shade, 0, 0)) for shade in (255, 120, 0)]
    options = {"lossless": True} if format == "WEBP" else {}
    data, said = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options), []
    x_0 = load_image(data, 28, 3, say=said.append)
    assert x_0[0, 0].min() == 1 and x_0[0, 1:].max() == -1
    assert said == ["The picture is animated (3 frames): its first frame was taken."]


def test_a_telephones_mpo_is_its_photograph():
    photo = Image.new("RGB", (28, 28), (255, 0, 0))
    data, said = encoded(photo, "MPO", save_all=True, append_images=[Image.new("RGB", (14, 14))]), []
    assert load_image(data, 28, 3, say=said.append)[0, 0].min() > 0.95 and said == []


def test_black_ink_on_nothing_is_seen():
    image, said = Image.new("RGBA", (28, 28), (0, 0, 0, 0)), []
    ImageDraw.Draw(image).rectangle([10, 10, 17, 17], fill=(0, 0, 0, 255))
    x_0 = load_image(encoded(image), 28, 1, say=said.append)
    assert x_0[0, 0, 0, 0] == 1 and x_0[0, 0, 14, 14] == -1
    assert said == ["Transparent parts were laid on white, because what is visible is dark."]
    assert load_image(encoded(image), 28, 1, invert=True)[0, 0, 14, 14] == 1


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"II*\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\0"])
def test_damaged_exif_is_ignored(exif):
    data = encoded(digit(), exif=exif)
    assert torch.equal(load_image(data, 28, 1), load_image(encoded(digit()), 28, 1))
    assert pictures.picture_size(data) == (28, 28)


@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "progressive", *({"AVIF"} & {*pictures.FORMATS})]
)
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.1, 0.5, 0.9, 0.98])
def test_a_file_that_was_cut_short_anywhere_is_refused(format, share):
    picture, options = Image.effect_noise((200, 200), 60), {"progressive": True} if format == "progressive" else {}
    data = encoded(picture, "JPEG" if options else format, **options)
    with pytest.raises(ValueError, match=r"(Copy or download it again|Export .*|Choose a picture)\.$"):
        load_image(data[: max(1, int(share * len(data)))], 28, 1)


def test_damaged_bytes_are_refused_or_a_picture_and_never_another_error():
    chance = np.random.default_rng(0)
    for format in pictures.FORMATS:
        data = encoded(Image.effect_noise((40, 30), 60).convert("RGB"), format)
        for _ in range(60):
            broken = bytearray(data)
            for place in chance.integers(0, len(data), 3):
                broken[place] = chance.integers(256)
            try:
                assert load_image(bytes(broken), 28, 1).isfinite().all()
            except ValueError as error:
                assert str(error).endswith(".")


# -- modes and profiles: what a pixel means -----------------------------------------------------------------


def test_16_bits_with_transparency():
    """PNG's 16-bit files of each kind: grey, grey with alpha, colours, and a colour that stands for transparent."""

    def png16(values: np.ndarray, kind: int, clear: bytes = b"") -> bytes:
        def chunk(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        height, width = values.shape[:2]
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        body = (chunk(b"tRNS", clear) if clear else b"") + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + head + body

    half, full = 0x8000, 0xFFFF
    grey = np.full((28, 28), half)
    assert torch.allclose(load_image(png16(grey, 0), 28, 1), torch.tensor(0.0), atol=0.01)
    grey[:, 14:] = full
    x_0 = load_image(png16(grey, 0, struct.pack(">H", full)), 28, 1)
    assert (x_0[..., 14:] == -1).all() and x_0[..., 13].abs().max() < 0.01, "white is transparent, and lies on black"
    x_0 = load_image(png16(np.dstack([np.full((28, 28), full), grey]), 4), 28, 1)
    assert x_0[..., 0].abs().max() < 0.01 and (x_0[..., 20] == 1).all()
    colours = np.zeros((28, 28, 3), int)
    colours[:, :14] = (full, half, 0)
    colours[:, 14:] = full
    x_0 = load_image(png16(colours, 2, struct.pack(">HHH", full, full, full)), 28, 3)
    assert (x_0[..., 14:] == -1).all()
    assert torch.allclose(x_0[0, :, 0, 0], torch.tensor([1.0, 0.0, -1.0]), atol=0.01)
    x_0 = load_image(png16(np.dstack([colours, np.full((28, 28), half)]), 6), 28, 3)
    assert torch.allclose(x_0[0, :, 0, 0], torch.tensor([0.0, -0.5, -1.0]), atol=0.01)


def profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def wide_profile() -> bytes:
    """sRGB's profile with red and green exchanged: no colour but the greys is where it was."""
    data = bytearray(profile("sRGB"))
    tags = {}
    for k in range(struct.unpack_from(">I", data, 128)[0]):
        name, begin, _ = struct.unpack_from(">4sII", data, 132 + 12 * k)
        tags[name] = 132 + 12 * k, begin
    (red, begin_red), (green, begin_green) = tags[b"rXYZ"], tags[b"gXYZ"]
    struct.pack_into(">I", data, red + 4, begin_green)
    struct.pack_into(">I", data, green + 4, begin_red)
    return bytes(data)


def test_colours_of_another_profile_are_converted_and_said():
    red = Image.new("RGB", (28, 28), (255, 0, 0))
    said = []
    x_0 = load_image(encoded(red, icc_profile=profile("sRGB")), 28, 3, say=said.append)
    assert said == [] and torch.equal(x_0, load_image(encoded(red), 28, 3)), "sRGB's own changes nothing"
    for picture, options in ((red, {}), (red.convert("RGBA"), {}), (red.convert("P"), {}), (red, {"quality": 95})):
        said.clear()
        format = "JPEG" if options else "PNG"
        x_0 = load_image(encoded(picture, format, icc_profile=wide_profile(), **options), 28, 3, say=said.append)
        assert said == ["The picture's colours were converted from its own profile to sRGB."]
        assert torch.allclose(x_0.mean((0, 2, 3)), torch.tensor([-1.0, 1.0, -1.0]), atol=0.03), "it means green"


@pytest.mark.parametrize("bad", [b"no profile", profile("LAB"), b"\0" * 200])
def test_a_profile_that_cannot_be_used_is_said_and_left_out(bad):
    said = []
    x_0 = load_image(encoded(digit(), icc_profile=bad), 28, 1, say=said.append)
    assert torch.equal(x_0, load_image(encoded(digit()), 28, 1))
    assert len(said) == 1 and "cannot be used" in said[0] and "taken for sRGB" in said[0]


def test_cmyk_photographs_are_the_colours_of_their_inks():
    for rgb in ((0, 255, 255), (255, 255, 255), (0, 0, 0), (255, 255, 0)):
        x_0 = load_image(encoded(Image.new("RGB", (28, 28), rgb).convert("CMYK"), "JPEG", quality=95), 28, 3)
        assert torch.allclose(x_0.mean((0, 2, 3)), torch.tensor(rgb) / 127.5 - 1, atol=0.03)


def test_a_wrong_extension_changes_nothing(tmp_path):
    path = tmp_path / "digit.jpg"
    path.write_bytes(encoded(digit()))
    assert torch.equal(load_image(path, 28, 1), load_image(encoded(digit()), 28, 1))


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (10_000, 1), (3, 2)])
def test_strips_and_dots(shape, fit):
    x_0 = load_image(encoded(Image.new("L", shape, 255)), 28, 1, fit=fit)
    assert x_0.shape == (1, 1, 28, 28) and x_0.max() == 1
    assert fit == "pad" or x_0.min() == 1


@pytest.mark.skipif("AVIF" not in pictures.FORMATS, reason="this Pillow was built without AVIF")
def test_avif():
    x_0 = load_image(encoded(Image.new("RGB", (64, 64), (255, 0, 0)), "AVIF"), 32, 3)
    assert torch.allclose(x_0.mean((0, 2, 3)), torch.tensor([1.0, -1.0, -1.0]), atol=0.05)


# -- memory -------------------------------------------------------------------------------------------------

PEAK = """
import re, sys
from pathlib import Path
from diffusion_explained.data import load_image

def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

before = most()
load_image(sys.argv[1], 128, 3)
print(most() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("mode, most", [("RGBA", 230), ("P", 110), ("I;16", 140), ("JPEG", 80), ("phone", 60)])
def test_a_large_picture_takes_little_more_memory_than_its_pixels(mode, most, tmp_path):
    """6,300 x 6,300: decoded, an RGBA is 159 MB, a palette's indices 40, 16-bit grey 80; a JPEG is decoded smaller."""
    path, ramp = tmp_path / "picture", Image.linear_gradient("L").resize((6300, 6300))
    if mode == "JPEG":
        ramp.convert("RGB").save(path, "JPEG")
    elif mode == "phone":  # 48 megapixels: 192 MB as RGB, 12 MB at a quarter per side
        ramp.convert("RGB").resize((8000, 6000)).save(path, "JPEG")
    elif mode == "I;16":
        Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257).save(path, "PNG", compress_level=1)
    else:
        ramp.convert("RGB").convert(mode).save(path, "PNG", compress_level=1)
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    assert float(done.stdout) < most


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_picture_is_the_picture(format, orientation, monkeypatch):
    """A JPEG of a fraction of its size, and strips of a PNG: near to what the whole gives; sizes are its own."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = digit().resize((1100, 1500), Image.Resampling.BICUBIC)
    data = encoded(stored, format, exif=exif)
    monkeypatch.setattr(pictures, "ENOUGH", 10_000)
    whole = load_image(data, 28, 1)
    monkeypatch.setattr(pictures, "ENOUGH", 64)
    said, decoded = [], []
    converted = pictures._converted
    monkeypatch.setattr(pictures, "_converted", lambda image, by: decoded.append(image.size) or converted(image, by))
    assert (load_image(data, 28, 1, say=said.append) - whole).abs().mean() < 0.03
    assert ("1100 x 1500" if orientation == 1 else "1500 x 1100") in said[-1]
    assert decoded == [(138, 188) if format == "JPEG" else (1100, 1500)]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "MPO", "WEBP", *({"AVIF"} & {*pictures.FORMATS})])
def test_sizes_and_pixels_are_those_after_the_turn_in_every_format(format):
    options = {"lossless": True} if format == "WEBP" else {} if format == "PNG" else {"quality": 100}

    def held_upright(image: Image.Image) -> bytes:
        exif = Image.Exif()  # anew for each file: Pillow's AVIF writer takes the orientation out of it
        exif[0x0112] = 6
        return encoded(image.convert("RGB"), format, exif=exif, **options)

    assert pictures.picture_size(held_upright(Image.new("L", (40, 20)))) == (40, 20)
    said, wide = [], Image.new("L", (40, 20))
    wide.paste(255, (0, 0, 10, 20))  # the left quarter, which is the upper one when the picture is turned
    x_0 = load_image(held_upright(wide), 28, 1, fit="pad", say=said.append)[0, 0]
    assert said[0] == "The picture was turned upright, as its camera noted." and "is 20 x 40" in said[1]
    assert x_0[2, 14] > 0.9 and x_0[24, 14] < -0.9


def test_a_large_picture_is_shrunk_before_it_is_converted(monkeypatch):
    monkeypatch.setattr(pictures, "ENOUGH", 64)
    exif, stored = Image.Exif(), digit().resize((280, 280)).transpose(Image.Transpose.ROTATE_90)
    exif[0x0112] = 6
    sizes, flattened = [], pictures._flattened
    monkeypatch.setattr(pictures, "_flattened", lambda image, say: sizes.append(image.size) or flattened(image, say))
    x_0 = load_image(encoded(stored, exif=exif), 28, 1)
    assert sizes == [(70, 70)]
    assert (x_0 - load_image(encoded(digit()), 28, 1)).abs().mean() < 0.1


def test_too_many_bytes(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 2**20)
    data = encoded(Image.effect_noise((2000, 2000), 80))
    for file in (data, io.BytesIO(data)):
        with pytest.raises(ValueError, match="larger than the 1 MB"):
            load_image(file, 28, 1)


def test_what_the_caller_may_not_ask(tmp_path):
    with pytest.raises(ValueError, match="channels must be 1 or 3"):
        load_image(encoded(digit()), 28, 4)
    with pytest.raises(ValueError, match="each number of size must be"):
        load_image(encoded(digit()), 0, 1)
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "nowhere.png", 28, 1)


@pytest.mark.parametrize(
    ("file", "size", "said"),
    [
        ("a\0.png", 8, "cannot be read: embedded null"),
        (io.StringIO("a picture"), 8, 'mode "rb"'),
        (b"", 2.0, "each number of size must be a whole number"),
        (b"", (8, True), "each number of size must be a whole number"),
        (b"", 10**6, "each number of size must be a whole number, from 1 to"),
    ],
)
def test_a_path_a_file_or_a_size_that_makes_no_sense_is_said(file, size, said):
    with pytest.raises(ValueError, match=said):
        load_image(file, size, channels=3)
