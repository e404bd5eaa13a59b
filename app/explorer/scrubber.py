"""The scrubber as a Streamlit component: the same script that the notebooks use."""

from pathlib import Path

import streamlit as st

import diffusion_explained
from diffusion_explained.film import Film

_PACKAGE = Path(diffusion_explained.__file__).parent


@st.cache_resource(show_spinner=False)
def _sources() -> tuple[str, str]:
    return (_PACKAGE / "scrubber.js").read_text("utf-8"), (_PACKAGE / "scrubber.css").read_text("utf-8")


def scrubber(
    film: Film, *, key: str, frame: int | None = None, autoplay: bool = False, report: bool = False
) -> int | None:
    """Show a film, at `frame` (the last by default); moves of its slider stay in the browser.

    With `report` the page runs again when the slider is let go, and the frame where it stands is returned.
    """
    js, css = _sources()
    component = st.components.v2.component("diffusion_explained_scrubber", js=js, css=css)
    last = len(film.captions) - 1
    data = {
        "film": film.to_message(),
        "frame": last if frame is None else max(0, min(frame, last)),
        "autoplay": autoplay,
        "report": report,
    }
    result = component(data=data, key=key, default={"frame": None}, on_frame_change=lambda: None)
    return result.frame
