"""An explorer that several people share: what is forbidden, what limits a run, and how the pages say so.

`diffusion-explained app --shared` turns this on. Each limit is enforced where the work is done, and not only hidden on
the page: a client other than a browser can send any value of any widget to the server.
"""

from collections.abc import Iterable

import streamlit as st

from diffusion_explained.cli.launch import UPLOAD_MB, UPLOAD_MB_SHARED
from diffusion_explained.serving import is_shared

STEPS = 50  # per run
PICTURES = 4  # or seeds, per run of Stable Diffusion
PER_CLASS = 4  # images per class, per run of Guidance
SIDE = 256  # of a picture, in pixels
UPLOADS, UPLOADS_SHARED = 20, 8  # a visitor's files that are kept; a LoRA is taught from five or more
UPLOADS_MB, UPLOADS_MB_SHARED = 100, 40  # in all
ONLY_SHIPPED = "only the models that ship with it run: none can be named, opened from a folder or downloaded"
NO_DOWNLOAD = "nothing is downloaded"


def most(alone: int, shared: int) -> int:
    """The limit that holds here: `alone` for one's own explorer, `shared` for a shared one."""
    return shared if is_shared() else alone


def up_to(choices: Iterable[int], bound: int) -> tuple[int, ...]:
    """The choices that this explorer offers: all of them, or on a shared explorer those up to `bound`."""
    return tuple(one for one in choices if not is_shared() or one <= bound)


def upload_mb() -> int:
    """The largest file that a visitor may upload, in megabytes."""
    return most(UPLOAD_MB, UPLOAD_MB_SHARED)


def uploads() -> tuple[int, int]:
    """How many of a visitor's files are kept, and of how many megabytes in all; a newer file drops the oldest."""
    return most(UPLOADS, UPLOADS_SHARED), most(UPLOADS_MB, UPLOADS_MB_SHARED)


def sentence(bounds: str) -> str:
    """What a shared explorer limits, why, and what to do. bounds: a clause, such as "a run has at most 50 steps"."""
    return (
        f"This explorer is shared by several people, so {bounds}. "
        "To do more, run `diffusion-explained app` on a machine of your own."
    )


def say(bounds: str) -> None:
    """On a shared explorer, show that sentence on the page."""
    if is_shared():
        st.caption(f":material/groups: {sentence(bounds)}")


def refuse(bounds: str) -> None:
    """On a shared explorer, raise a ValueError with that sentence."""
    if is_shared():
        raise ValueError(sentence(bounds))
