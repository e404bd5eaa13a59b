"""The comparison with kept screenshots: what it lets pass, and what it finds."""

import numpy as np
import pytest
from PIL import Image
from screens import FEW, KEPT, MOVED, unlike

FILES = sorted(KEPT.glob("*.png"))
DESKS = [file for file in FILES if file.stem.endswith("-1440") and file.stem != "beyond-1440"]  # it has no picture


def ground(pixels):
    """The lightness of the page behind its words and pictures."""
    return int(np.bincount(pixels.ravel()).argmax())


def moved(pixels, *, down=0, right=0):
    """A picture whose content stands elsewhere."""
    content = np.full_like(pixels, ground(pixels))
    content[down:, right:] = pixels[: pixels.shape[0] - down, : pixels.shape[1] - right]
    return content


def without_a_picture(pixels, side=16):
    """The page without what is least like its ground, in a square of 192 pixels of the page."""
    contrast = np.abs(pixels.astype(np.float64) - ground(pixels))
    squares = np.lib.stride_tricks.sliding_window_view(contrast, (side, side)).mean((2, 3))
    top, left = np.unravel_index(squares.argmax(), squares.shape)
    missing = pixels.copy()
    missing[top : top + side, left : left + side] = ground(pixels)
    return missing


@pytest.fixture(params=DESKS, ids=lambda file: file.stem)
def kept(request):
    with Image.open(request.param) as picture:
        return np.asarray(picture)


def test_every_page_has_its_three_small_pictures():
    pages = [file.stem.rpartition("-")[0] for file in FILES]
    assert len(pages) == 3 * len(set(pages)) > 0
    assert sum(file.stat().st_size for file in FILES) < 300_000


def test_another_browser_s_text_and_a_line_more_pass(kept):
    noise = np.random.default_rng(0).integers(-12, 13, kept.shape)
    for other in (np.clip(kept + noise, 0, 255).astype(np.uint8), moved(kept, down=MOVED)):
        assert unlike(Image.fromarray(kept), Image.fromarray(other)) <= FEW


def test_a_blank_page_a_moved_page_and_a_missing_picture_fail(kept):
    blank = [np.full_like(kept, shade) for shade in (0, 255, ground(kept))]
    for other in (*blank, moved(kept, down=4 * MOVED), moved(kept, right=2 * MOVED), without_a_picture(kept)):
        assert unlike(Image.fromarray(kept), Image.fromarray(other)) > FEW
