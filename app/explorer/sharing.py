"""An explorer that is shared by several people: which doors are closed, what bounds a run, and how the pages say so.

`diffusion-explained app --shared` makes it so. What is closed is closed where the work is done, and not only hidden on
the page: whoever speaks to the server without a browser can send any value of any widget.
"""

from collections.abc import Iterable

import streamlit as st

from diffusion_explained.cli.launch import UPLOAD_MB, UPLOAD_MB_SHARED
from diffusion_explained.serving import is_shared

STEPS = 50  # of one run
PICTURES = 4  # or seeds, of one run of Stable Diffusion
PER_CLASS = 4  # images of each class, of one run of Guidance
SIDE = 256  # pixels of a picture
ONLY_SHIPPED = "only the models that ship with it run: none can be named, opened from a folder or downloaded"
NO_DOWNLOAD = "nothing is downloaded"


def most(alone: int, shared: int) -> int:
    """A bound: the first where the explorer is one's own, the second where it is shared."""
    return shared if is_shared() else alone


def up_to(choices: Iterable[int], bound: int) -> tuple[int, ...]:
    """Those of some numbers that can be chosen here: all, or where the explorer is shared those up to a bound."""
    return tuple(one for one in choices if not is_shared() or one <= bound)


def upload_mb() -> int:
    """Megabytes that a file of a visitor's may have."""
    return most(UPLOAD_MB, UPLOAD_MB_SHARED)


def sentence(bounds: str) -> str:
    """What does not go on a shared explorer: why, and what to do. bounds: as "a run has at most 50 steps"."""
    return (
        f"This explorer is shared by several people, so {bounds}. "
        "To do more, run `diffusion-explained app` on a machine of your own."
    )


def say(bounds: str) -> None:
    """On a shared explorer, say so on the page."""
    if is_shared():
        st.caption(f":material/groups: {sentence(bounds)}")


def refuse(bounds: str) -> None:
    """On a shared explorer, raise a ValueError that says so."""
    if is_shared():
        raise ValueError(sentence(bounds))
