"""Read a user's own picture as x_0, fitted to the network's size; a picture that is too large is not even decoded."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from diffusion_explained.checks import named_options, typed_arguments, whole
from diffusion_explained.data.images import to_float
from diffusion_explained.messages import shortened

File = str | PathLike[str] | bytes | BinaryIO
Say = Callable[[str], object]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", *(["AVIF"] if "avif" in features.get_supported_modules() else []))
PHONE = "MPO"  # Pillow's format name for a phone's .jpg that holds the photograph and then a depth map
MAX_BYTES = 20 * 2**20
DARK = 64  # of 255: darker ink cannot be seen on black
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
MAX_SIDE = 10_000  # pixels
ENOUGH = 1024  # pixels per side: larger pictures are reduced to at least this, and to twice the network's size
MAX_PIXELS = 40_000_000  # 160 MB as RGBA: enough for most photographs, too little for a decompression bomb
MAX_DECODED = 4 * MAX_PIXELS  # bytes that decoding a larger JPEG may take
JPEG_MAX_SIDE, JPEG_MAX_PIXELS = 20_000, 120_000_000  # a phone's largest; a JPEG can be decoded at an eighth per side
STRIP = 64  # rows that are converted at once, never all of a large picture
START_OF_SCAN = 0xDA  # markers of a JPEG file
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
FRAMES = (0xC0, 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF, *PROGRESSIVE)
SEEN = 3  # of 255: a colour profile that changes no colour by more counts as sRGB
OTHERS = (  # for files of other kinds: how they begin, their names, and what to do with them
    (rb"%PDF", "a PDF document", "Export its page as PNG."),
    (rb"(?=.*<svg)(\xef\xbb\xbf)?\s*<", "an SVG drawing", "Export it as PNG, at the size that you need."),
    (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC photograph", "Export it as JPEG, or set the camera to take JPEG."),
    (rb"....ftypavi", "an AVIF picture of an unknown or damaged kind", "Export it as PNG or JPEG."),
    (rb"....ftyp|....moov|\x1a\x45\xdf\xa3", "a film", "Export one of its frames as PNG."),
    (rb"II[*+]\x00|MM\x00[*+]", "a TIFF or a camera's raw picture", "Export the page that you mean as PNG."),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL picture", "Export it as PNG or JPEG."),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture", "Export it as PNG or JPEG."),
    (rb"8BPS", "a Photoshop document", "Export it as PNG."),
    (rb"\x00\x00[\x01\x02]\x00", "an icon", "Export one of its sizes as PNG."),
    (rb"PK\x03\x04", "an archive or an office document", "Take the picture out of it, as PNG or JPEG."),
    (rb"\x89PNG|\xff\xd8|GIF8|BM|RIFF....WEBP", "a damaged or cut-off header", "Copy or download it again."),
    (rb"[\t\n\r -~\x80-\xff]*\Z", "a text", "Choose a picture."),
)  # fmt: skip


@named_options
@typed_arguments
def load_image(
    file: File,
    size: int | tuple[int, int],
    channels: int,
    *,
    fit: Literal["crop", "pad"] = "crop",
    invert: bool = False,
    say: Say | None = None,
) -> Tensor:
    """Read a picture as x_0, float32 [1, channels, H, W] in [-1, 1].

    Colours are converted to sRGB from any other profile, and 16 bits per channel are reduced to 8. The picture is
    turned according to its EXIF orientation. From an animation the first frame is used.

    Args:
        file: a path, the bytes of a file, or a file open for reading bytes.
        size: the height and width to fit the picture to, or one number for a square.
        channels: 1 (grey) or 3 (red, green, blue).
        fit: "crop" keeps the middle, "pad" keeps everything and pads with black.
        invert: swap black and white, for instance for ink on paper and a network of white digits on black.
        say: called with one sentence for each change to the picture, except scaling.

    Raises ValueError, with a message for the person who chose the picture, for a file that is not a picture, is
    truncated, is larger than MAX_BYTES, declares more than MAX_SIDE or MAX_PIXELS pixels (JPEG_MAX_SIDE or
    JPEG_MAX_PIXELS for a JPEG), or is a JPEG whose decoding would take more than MAX_DECODED bytes, all of which is
    read from its header, before anything is decoded; OSError if a path cannot be read.
    """
    sides = size if isinstance(size, tuple | list) else (size, size)
    height, width = (whole("each number of size", side, 1, MAX_SIDE) for side in sides)
    if channels not in (1, 3) or fit not in ("crop", "pad"):
        raise ValueError(f"channels must be 1 or 3, fit 'crop' or 'pad'; got {channels}, {fit!r}")
    say = say or (lambda sentence: None)
    picture = decode(file, max(height, width), say)
    image = _flattened(picture.image, say).convert("L" if channels == 1 else "RGB")
    image = fitted(image, picture.own, height, width, fit, say)
    if invert:
        image = ImageOps.invert(image)
        say("Black and white were swapped.")
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8)).reshape(1, height, width, channels)
    return to_float(pixels.permute(0, 3, 1, 2).contiguous())


@typed_arguments
def picture_size(file: File) -> tuple[int, int]:
    """A picture's own height and width, after turning it by its EXIF orientation; raises ValueError as `load_image`.

    No pixel is decoded, so this also works for a truncated picture.
    """
    with _opened(_read(file)) as image:
        size = image.height, image.width
        return size[::-1] if _orientation(image) >= 5 else size


class Picture(NamedTuple):
    """A picture as it is displayed: upright, in sRGB with 8 bits per channel, of mode L, LA, RGB or RGBA.

    image: reduced by a whole factor if it is large; own: the original (width, height), upright.
    """

    image: Image.Image
    own: tuple[int, int]


def decode(file: File, side: int, say: Say) -> Picture:
    """Decode a picture, and reduce it to about twice `side` pixels if it is much larger.

    A JPEG is decoded at a fraction of its size; other formats are decoded whole, and converted strip by strip, so that
    a picture takes little more memory than its pixels.

    Raises ValueError for a picture that is cut short or damaged.
    """
    data = _read(file)
    with _opened(data) as image:
        own, deep = image.size, image.format == "PNG" and data[24] == 16
        if getattr(image, "is_animated", False) and image.format != PHONE:
            say(f"The picture is animated ({getattr(image, 'n_frames', 1)} frames): its first frame was taken.")
        enough = max(ENOUGH, 2 * side)
        if (factor := min(own) // enough) > 1:
            image.draft(None, (own[0] // factor, own[1] // factor))  # does nothing for other formats than JPEG
        if own[0] * own[1] > MAX_PIXELS:
            _check_memory(image, own, data)
        try:
            image.load()
        except Exception as error:  # a parser of unknown bytes: OSError, ValueError, struct.error, EOFError, ...
            raise ValueError(
                f"The picture is cut short or damaged: {_plainly(error)}. Copy or download it again."
            ) from error
        clear = image.info.get("transparency")
        if deep and isinstance(clear, tuple):  # the transparent colour has 16 bits, but the pixels have 8 now
            image.info["transparency"] = tuple(value >> 8 for value in clear)
        if image.mode.startswith("I"):
            say("16 bits of grey were reduced to 8.")
        orientation = _orientation(image)
        picture = _in_srgb(_converted(image, max(1, min(image.size) // enough)), image.info.get("icc_profile"), say)
    if orientation == 1:
        return Picture(picture, own)
    say("The picture was turned upright, as its camera noted.")
    return Picture(picture.transpose(TURNS[orientation]), own if orientation < 5 else own[::-1])


def fitted(
    image: Image.Image,
    own: tuple[int, int],
    height: int,
    width: int,
    fit: Literal["crop", "pad"] = "crop",
    say: Say = lambda sentence: None,
    ground: tuple[int, int, int] | str = "black",
) -> Image.Image:
    """Resize an image to height and width, by cropping to its middle or padding with `ground`; own: as in `Picture`."""
    if own[0] * height == own[1] * width:
        return image.resize((width, height), Image.Resampling.LANCZOS)
    was = f"The picture is {own[0]} x {own[1]}, another shape than the network's: "
    if fit == "crop":
        say(was + "its middle was kept.")
        scale = min(image.width / width, image.height / height)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (left, top, image.width - left, image.height - top)
        return image.resize((width, height), Image.Resampling.LANCZOS, box)
    say(was + f"it was filled up with {ground if isinstance(ground, str) else 'the colour of its edge'}.")
    scale = max(own[0] / width, own[1] / height)
    inner = max(1, round(own[0] / scale)), max(1, round(own[1] / scale))
    sheet = Image.new(image.mode, (width, height), ground)
    sheet.paste(image.resize(inner, Image.Resampling.LANCZOS), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return sheet


def _read(file: File) -> bytes:
    """The file's bytes. Raises ValueError for an empty file or one larger than MAX_BYTES."""
    if isinstance(file, str | PathLike):
        try:
            with Path(file).open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
        except OSError as error:
            raise type(error)(f"the picture {file} cannot be read: {error.strerror}.") from error
        except ValueError as error:  # a NUL
            raise ValueError(f"the picture {shortened(file)} cannot be read: {error}.") from error
    else:
        data = file if isinstance(file, bytes) else file.read(MAX_BYTES + 1)
        if not isinstance(data, bytes):
            raise ValueError('The file was opened as a text: open it with mode "rb".')
    if len(data) > MAX_BYTES:
        raise ValueError(f"The file is larger than the {MAX_BYTES // 2**20} MB that are allowed; make it smaller.")
    if not data:
        raise ValueError("The file is empty.")
    return data


def _opened(data: bytes) -> Image.Image:
    """Open a picture and check its header; nothing is decoded yet."""
    allowed = f"Allowed are {', '.join(FORMATS)}"
    limits = (JPEG_MAX_SIDE, JPEG_MAX_PIXELS) if data.startswith(b"\xff\xd8") else (MAX_SIDE, MAX_PIXELS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the sizes below are checked instead
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        for beginning, name, advice in OTHERS:
            if re.match(beginning, data[:1024], re.DOTALL):
                raise ValueError(f"The file is {name}, not a picture that can be read. {allowed}. {advice}") from None
        raise ValueError(f"The file is not a picture that can be read. {allowed}. Export it as PNG or JPEG.") from None
    except Image.DecompressionBombError:
        raise ValueError(f"The picture declares far too many pixels; {_allowed_size(*limits)}") from None
    except Exception as error:  # a parser of unknown bytes: OSError, ValueError, SyntaxError, struct.error, ...
        raise ValueError(f"The picture's header is damaged: {_plainly(error)}. Copy or download it again.") from error
    if max(image.size) > limits[0] or image.width * image.height > limits[1]:
        raise ValueError(f"The picture is {_upright(image, image.size)} pixels; {_allowed_size(*limits)}")
    return image


def _allowed_size(side: int, pixels: int) -> str:
    return f"allowed are {side:,} per side and {pixels:,} in all. Make it smaller: it is scaled down anyway."


def _upright(image: Image.Image, size: tuple[int, int]) -> str:
    """The width and height of an image as it is displayed, for messages; of a PNG as it is stored."""
    known = image.format != "PNG"  # whose orientation may stand behind its pixels, which Pillow would decode
    width, height = size[::-1] if known and _orientation(image) >= 5 else size
    return f"{width:,} x {height:,}"


def _check_memory(image: Image.Image, own: tuple[int, int], data: bytes) -> None:
    """Raise ValueError for a large JPEG that takes too much memory to decode; own: its size without the reduction."""
    stored, decoded = _coefficient_bytes(data), 4 * image.width * image.height
    if stored + decoded <= MAX_DECODED:
        return
    why, instead = "at the size that is needed here", "Make it smaller"
    if stored > decoded:
        why = "because its pixels are stored in several passes"
        instead = 'Save it without the option "progressive", or make it smaller'
    raise ValueError(
        f"The picture is {_upright(image, own)} pixels, and decoding it would take {(stored + decoded) / 1e6:,.0f} MB "
        f"of memory {why}; allowed are {MAX_DECODED / 1e6:,.0f} MB. {instead}."
    )


def _coefficient_bytes(data: bytes) -> int:
    """The memory in bytes that a JPEG needs beside its decoded pixels: that of the coefficients, two bytes each.

    The decoder holds all of them if the file has several scans (progressive, or one colour at a time), none otherwise.
    """
    place, coefficients, components, progressive = 2, 0.0, 0, False
    while place + 10 < len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == START_OF_SCAN:
            return int(2 * coefficients) if progressive or data[place + 4] < components else 0
        if marker in FRAMES:
            height, width = (int.from_bytes(data[place + k : place + k + 2], "big") for k in (5, 7))
            components, progressive = data[place + 9], marker in PROGRESSIVE
            sampled = [divmod(byte, 16) for byte in data[place + 11 : place + 10 + 3 * components : 3]]
            largest = max(1, *(across for across, _ in sampled)) * max(1, *(down for _, down in sampled))
            coefficients = width * height * sum(across * down / largest for across, down in sampled)
        place += 2 + length
    return 0  # cut short: the decoder reports it


def _plainly(error: Exception) -> str:
    """A parser's error message, without its full stop."""
    return str(error).strip().rstrip(".") or "its data breaks off"


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, from 1 (upright) to 8; 1 if the EXIF data is missing or damaged."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # a parser of unknown bytes: struct.error, SyntaxError, ...; the pixels may still be good
        return 1
    return orientation if orientation in TURNS else 1


def _converted(image: Image.Image, factor: int) -> Image.Image:
    """A decoded image with 8 bits per channel and no palette, reduced by a whole factor: L, LA, RGB, RGBA or CMYK."""
    rows = factor * -(-STRIP // factor)
    strips = [
        _plain(image.crop((0, top, image.width, min(image.height, top + rows)))).reduce(factor)
        for top in range(0, image.height, rows)
    ]
    whole = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    for k, strip in enumerate(strips):
        whole.paste(strip, (0, k * rows // factor))
    return whole


def _plain(image: Image.Image) -> Image.Image:
    """An image converted to 8 bits per channel without a palette."""
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip instead of scale
        values, clear = np.asarray(image), image.info.get("transparency")
        grey = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
        if clear is not None:
            grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return grey
    if image.has_transparency_data:
        return image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "CMYK") else image.convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes | None, say: Say) -> Image.Image:
    """Convert an image from its colour profile to sRGB; without a profile it is taken to be sRGB already."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    plain = image if alpha is None else image.convert(image.mode[:-1])
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}[own.profile.xcolor_space.strip()]
            if plain.mode != space and (plain.mode, space) != ("L", "RGB"):
                raise ValueError(f"it is for {space}, and the picture is {plain.mode}")
            to_srgb = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), space, "RGB")
            if space == "CMYK" or _moves(to_srgb, space):
                plain = to_srgb.apply(plain.convert(space))
                say("The picture's colours were converted from its own profile to sRGB.")
        except Exception as error:  # a parser of unknown bytes, or a Pillow without LittleCMS
            say(f"The picture's colour profile cannot be used ({_plainly(error)}): its colours were taken for sRGB.")
    if plain.mode == "CMYK":
        plain = plain.convert("RGB")
    if alpha is None:
        return plain
    plain = plain.copy()
    plain.putalpha(alpha)
    return plain


def _moves(to_srgb: ImageCms.ImageCmsTransform, space: str) -> bool:
    """Whether a transform changes colours visibly."""
    ramp = Image.linear_gradient("L")
    across = ramp.transpose(Image.Transpose.ROTATE_90)
    probe = ramp if space == "L" else Image.merge("RGB", (ramp, across, ImageOps.invert(ramp)))
    after = np.asarray(to_srgb.apply(probe), dtype=int)
    return bool(np.abs(after - np.asarray(probe.convert("RGB"))).max() > SEEN)


def _flattened(image: Image.Image, say: Say) -> Image.Image:
    """Remove transparency: put the image on black, or on white if its visible parts are too dark for black."""
    if image.mode not in ("LA", "RGBA"):
        return image
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert("RGB")
    visible = image.convert("L").histogram(alpha.point(lambda value: 255 * (value > 0)))
    dark = sum(visible) > 0 and sum(visible[DARK:]) <= 0.01 * sum(visible)
    background = "white" if dark else "black"
    say(f"Transparent parts were laid on {background}{', because what is visible is dark' if dark else ''}.")
    ground = Image.new("RGB", image.size, background)
    ground.paste(image.convert("RGB"), mask=alpha)
    return ground
