"""The picture of the whole as a Streamlit component: the same script that the notebooks use."""

from collections.abc import Sequence

import streamlit as st

from diffusion_explained.film import script, style
from diffusion_explained.stable_diffusion.pipeline_films import PipelineRun, to_message
from explorer import address
from explorer.setting_types import OneOf, Whole

BOXES = ("tokens", "encoder", "latent", "unet", "guidance", "step", "decoder")
FILMS = ("frame", "open", "word")  # what only the browser writes into the address


def pipeline(runs: Sequence[PipelineRun], apart: Sequence[float] = (), *, key: str, name: str = "frame") -> None:
    """Show one run, or two on one timeline, whose distance at each frame is `apart`.

    The slider, the box that is open and the word whose attention is shown stay in the browser, which writes them into
    the address. It plays by itself once, unless the address gives a frame. With name="" it waits for another run, to
    which the frame of the address and the playing are left.
    """
    component = st.components.v2.component("diffusion_explained_pipeline", js=script("pipeline"), css=style("pipeline"))
    message = to_message(runs, apart)
    last = len(message["captions"]) - 1
    begin, asked = address.frame(name, message["key"], last, last)
    token, moved = address.moved("frame")
    _, opened = address.moved("open")
    box = address.in_browser("open", OneOf(BOXES), None)
    first_visit = bool(name) and not st.session_state.get("pipeline_played")
    if name:
        st.session_state.pipeline_played = True
    data = {
        "film": message,
        "frame": begin if moved is None else min(moved, last),
        "usual": last,
        "name": name,
        "autoplay": first_visit and not asked and moved is None,
        "token": token,
        "open": {"name": "open", "usual": "", "value": next((one for one in (opened, box) if one is not None), "")},
        "word": {"name": "word", "usual": None, "value": address.in_browser("word", Whole(0, 14), None)},
    }
    component(data=data, key=key)
