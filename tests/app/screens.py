"""Small grey pictures of the explorer's pages, kept in `screens/`, and how far a page may differ from its own.

The lightness of each part of a page, 48 pixels wide and high, is compared, for text may be drawn with other edges by
another Chromium. A part may have moved by 48 pixels up or down, for a line may be broken elsewhere. KEEP_SCREENS=1 in
the environment keeps what is seen instead; then look at the pictures, and commit them.
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

KEPT = Path(__file__).parent / "screens"
SMALLER = 12  # pixels of the page, in either direction, per pixel that is kept
SHADES = 8  # of 256 lightness values are kept as one: the file is half as large
PART = MOVED = 4  # kept pixels
CLEARLY = 16  # of 255
FEW = 8  # parts of a screenshot, as many as a picture of 140 by 140 pixels covers; a page has 400 to 1,500


def small(screenshot: bytes) -> Image.Image:
    """A screenshot in grey, SMALLER times smaller, in steps of SHADES."""
    with Image.open(io.BytesIO(screenshot)) as picture:
        return picture.convert("L").reduce(SMALLER).point(lambda value: value // SHADES * SHADES)


def lightness(picture: Image.Image) -> np.ndarray:
    """The mean of the PART by PART pixels that begin at each row, and at every PART-th column."""
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(picture, dtype=np.float64), (PART, PART))
    return windows.mean((2, 3))[:, ::PART]


def unlike(one: Image.Image, other: Image.Image) -> int:
    """How many parts of one picture are nowhere near their place in the other, or the other way round."""
    counts = []
    for here, there in ((lightness(one), lightness(other)), (lightness(other), lightness(one))):
        padded = np.pad(there, ((MOVED, MOVED), (0, 0)), mode="edge")
        near = np.lib.stride_tricks.sliding_window_view(padded, 2 * MOVED + 1, axis=0)
        differs = np.abs(near - here[..., None]).min(-1) > CLEARLY
        counts.append(int(differs[:-MOVED:PART].sum()))  # not the last: they may have moved out of the screenshot
    return max(counts)


def assert_as_kept(page, name: str, seen: Path) -> None:
    """Assert that a page in Chromium looks as its kept picture, but for FEW parts; else write what is seen to `seen`.

    A picture may be drawn a while after the script has ended: the page is looked at until it is so, for 30 seconds.
    """
    file = KEPT / f"{name}.png"
    if os.environ.get("KEEP_SCREENS"):
        page.wait_for_timeout(1000)
        small(page.screenshot()).save(file, optimize=True)
    with Image.open(file) as kept:
        for _ in range(60):
            picture = small(page.screenshot())
            assert kept.size == picture.size, f"{file} is of another size than the page: KEEP_SCREENS=1 renews it"
            count = unlike(kept, picture)
            if count <= FEW:
                return
            page.wait_for_timeout(500)
    picture.save(seen)
    raise AssertionError(
        f"{count} parts of the page are not as in {file}. Compare it with {seen}; where the change is meant, "
        "KEEP_SCREENS=1 keeps the new."
    )
