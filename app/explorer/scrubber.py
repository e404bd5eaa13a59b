"""The scrubber as a Streamlit component: the same script that the notebooks use."""

import streamlit as st

from diffusion_explained.film import Film, script, style
from explorer import address


def scrubber(
    film: Film, *, key: str, name: str = "frame", frame: int | None = None, autoplay: bool = False, keep: bool = False
) -> None:
    """Show a film at the frame that the address gives under `name`, or otherwise at `frame` (the last by default).

    Moving its slider stays in the browser, which writes the frame into the address. autoplay: play, unless the address
    gives a frame; keep: a new film with the same number of frames starts at the slider's present place.
    """
    component = st.components.v2.component("diffusion_explained_scrubber", js=script("scrubber"), css=style("scrubber"))
    message, last = film.to_message(), len(film.captions) - 1
    usual = last if frame is None else frame
    begin, asked = address.frame(name, message["key"], last, usual)
    data = {
        "film": message,
        "frame": begin,
        "usual": last if autoplay else usual,
        "name": name,
        "autoplay": autoplay and not asked,
        "keep": keep,
    }
    component(data=data, key=key)
