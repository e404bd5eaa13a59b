"""What a mask means, in every mode of a file, with and without transparency: white is painted anew, black is kept."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from diffusion_explained.stable_diffusion.masks import load_mask, rectangle_mask

HOLE = (slice(16, 48), slice(8, 24))  # rows and columns


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def drawn(mode: str, ground, ink, size=(64, 64)) -> Image.Image:
    """The hole in ink, on a ground."""
    image = Image.new(mode, size, ground)
    ImageDraw.Draw(image).rectangle([8, 16, 23, 47], fill=ink)
    return image


def palette(ground, ink, **options) -> bytes:
    image = drawn("P", 0, 1)
    image.putpalette([*ground, *ink])
    return encoded(image, **options)


def deep(ground: int, ink: int) -> bytes:
    return encoded(Image.fromarray(np.where(np.asarray(drawn("L", 0, 255)) > 0, ink, ground).astype(np.uint16)))


PICTURE = encoded(Image.new("RGB", (64, 64), (200, 90, 10)))
EXPECTED = torch.zeros(64, 64)
EXPECTED[HOLE] = 1
CLEAR, BLACK, WHITE = (0, 0, 0, 0), (0, 0, 0, 255), (255, 255, 255, 255)
WHITE_MARKS = {
    "1": encoded(drawn("1", 0, 1)),
    "L": encoded(drawn("L", 0, 255)),
    "L, dark grey and light grey": encoded(drawn("L", 60, 200)),
    "LA, opaque": encoded(drawn("LA", (0, 255), (255, 255))),
    "LA, white on nothing": encoded(drawn("LA", (0, 0), (255, 255))),
    "LA, white on white nothing": encoded(drawn("LA", (255, 0), (255, 255))),
    "RGB": encoded(drawn("RGB", (0, 0, 0), (255, 255, 255))),
    "RGBA, opaque": encoded(drawn("RGBA", BLACK, WHITE)),
    "RGBA, white on nothing": encoded(drawn("RGBA", CLEAR, WHITE)),
    "RGBA, white on white nothing": encoded(drawn("RGBA", (255, 255, 255, 0), WHITE)),
    "RGBA, white and black, with a transparent rim": encoded(
        Image.alpha_composite(Image.new("RGBA", (64, 64), CLEAR), drawn("RGBA", BLACK, WHITE))
    ),
    "palette": palette((0, 0, 0), (255, 255, 255)),
    "palette, white on nothing": palette((9, 200, 9), (255, 255, 255), transparency=0),
    "16 bits": deep(0, 65535),
    "16 bits, where an 8-bit reading would clip": deep(300, 60000),
    "JPEG": encoded(drawn("L", 0, 255), "JPEG", quality=95),
    "GIF": encoded(drawn("L", 0, 255), "GIF"),
    "WEBP": encoded(drawn("RGBA", CLEAR, WHITE), "WEBP", lossless=True),
}
BLACK_MARKS = {
    "1": encoded(drawn("1", 1, 0)),
    "L": encoded(drawn("L", 255, 0)),
    "LA, black on nothing": encoded(drawn("LA", (0, 0), (0, 255))),
    "RGBA, black on nothing": encoded(drawn("RGBA", CLEAR, BLACK)),
    "RGBA, black on white": encoded(drawn("RGBA", WHITE, BLACK)),
    "palette, black on nothing": palette((255, 255, 255), (0, 0, 0), transparency=0),
    "16 bits": deep(65535, 0),
}


def understood(mask: bytes, **options) -> torch.Tensor:
    return (load_mask(mask, PICTURE, 64, 64, **options) >= 0.5).float()  # as `prepare` reads it


@pytest.mark.parametrize("name", WHITE_MARKS)
def test_white_is_painted_anew_in_every_mode(name):
    said = []
    assert torch.equal(understood(WHITE_MARKS[name], say=said.append), EXPECTED)
    assert said[-1].startswith("12% of the picture is painted anew, where the mask is white.")
    assert ("transparent parts are kept" in said[-1]) == ("nothing" in name or name == "WEBP")


@pytest.mark.parametrize("name", BLACK_MARKS)
def test_black_is_painted_anew_where_the_mask_is_inverted(name):
    said = []
    assert torch.equal(understood(BLACK_MARKS[name], invert=True, say=said.append), EXPECTED)
    assert said[-1].startswith("12% of the picture is painted anew, where the mask is black.")


@pytest.mark.parametrize("name", [name for name in BLACK_MARKS if "nothing" in name])
def test_black_ink_on_nothing_is_refused_and_not_inverted(name):
    """Laid on white, as a picture would be, everything but the ink would be painted anew."""
    with pytest.raises(
        ValueError, match=r"Nothing of the mask is white.*white where to paint anew.*can be inverted\.$"
    ):
        understood(BLACK_MARKS[name])


def photograph(hole: bool) -> bytes:
    """A picture in colours; with a transparent hole it is another program's mask, which paints what is transparent."""
    image = Image.merge("RGBA", (*(Image.linear_gradient("L").rotate(90 * k).resize((64, 64)) for k in range(3)),
                                 Image.new("L", (64, 64), 255)))  # fmt: skip
    if hole:
        image.paste(CLEAR, (8, 16, 24, 48))
    return encoded(image)


def grey_photograph() -> bytes:
    image = Image.merge("LA", (Image.linear_gradient("L").resize((64, 64)), Image.new("L", (64, 64), 255)))
    image.paste((0, 0), (8, 16, 24, 48))
    return encoded(image)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (photograph(True), "The mask is coloured"),
        (photograph(False), "The mask is coloured"),
        (grey_photograph(), "transparent in parts and grey in others"),
        (encoded(drawn("RGBA", CLEAR, (255, 0, 0, 255))), "The mask is coloured"),
        (palette((0, 0, 0), (128, 0, 0)), "The mask is coloured"),
        (encoded(drawn("L", 0, 1)), "Nothing of the mask is white"),
        (encoded(Image.new("RGBA", (64, 64), CLEAR)), "transparent everywhere"),
        (encoded(Image.new("L", (64, 64), 0)), "Nothing of the mask is white"),
        (encoded(Image.new("L", (30, 20), 255)), "as large as the picture, 64 x 64 pixels.* it is 30 x 20"),
        (b"a text", "The file is a text"),
        (b"", "empty"),
    ],
    ids=["holes", "photograph", "grey holes", "red ink", "labels in colours", "labels 0 and 1", "clear", "black",
         "size", "text", "empty"],
)  # fmt: skip
def test_what_is_no_mask_is_refused(mask, words):
    with pytest.raises(ValueError, match=words) as error:
        understood(mask)
    assert str(error.value).endswith(".")


def test_a_soft_brush_counts_from_a_half_on():
    soft = Image.linear_gradient("L").resize((64, 64))
    expected = torch.from_numpy(np.array(soft)).ge(128).float()
    assert torch.equal(understood(encoded(soft)), expected)
    ink = Image.merge("LA", (Image.new("L", (64, 64), 255), soft))
    assert torch.equal(understood(encoded(ink)), expected), "white of that alpha"


def test_a_mask_is_fitted_as_its_picture_is_turned_and_of_any_size():
    picture = encoded(Image.new("RGB", (200, 100)))
    mask = Image.new("L", (200, 100))
    mask.paste(255, (50, 0, 100, 100))  # the left half of the middle square, which is what is kept
    half = torch.zeros(64, 64)
    half[:, :32] = 1
    turned = Image.Exif()
    turned[0x0112] = 6
    for given in (
        encoded(mask),
        encoded(mask.resize((100, 50))),
        encoded(mask.transpose(Image.Transpose.ROTATE_90), exif=turned),
        encoded(mask.crop((50, 0, 150, 100)).resize((64, 64))),  # of the run's size
        encoded(mask.resize((6000, 3000), Image.Resampling.NEAREST)),
    ):
        assert torch.equal((load_mask(given, picture, 64, 64) >= 0.5).float(), half)


def test_a_rectangle():
    assert rectangle_mask(8, 16, (0.25, 0.5), (0.0, 1.0)).sum() == 8 * 4


@pytest.mark.parametrize(
    ("sides", "across", "said"),
    [
        ((16, 16), (0.6, 0.4), "0 <= first < last <= 1; got 0.6 and 0.4"),
        ((16, 16), (0.5, 0.5), "0 <= first < last <= 1"),
        ((16, 16), (-0.5, 0.5), "0 <= first < last <= 1"),
        ((16, 16), (0.0, float("nan")), "0 <= first < last <= 1"),
        ((16, 16), (0.0, 0.001), "no pixel of 16 x 16"),
        ((-1, 16), (0.0, 1.0), "height must be a whole number"),
        ((16, 10**9), (0.0, 1.0), "width must be a whole number"),
    ],
)
def test_a_rectangle_that_marks_nothing_is_refused(sides, across, said):
    with pytest.raises(ValueError, match=said):
        rectangle_mask(*sides, across, (0.0, 1.0))
