"""The canvas of the page The plane as a Streamlit component: the same script that the notebooks use."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import streamlit as st

from explorer import address
from explorer.setting_types import Joined, Whole

if TYPE_CHECKING:
    from diffusion_explained.charts import Chart
    from diffusion_explained.plots.point_films import PlaneFilm

LAYERS = ("data", "density", "paths", "arrows", "score", "predicted")
USUAL_LAYERS = "density.paths"
END = 1000  # of the slider: data; 0 is noise
NAME = "plane"


def _component(**given: object) -> object:
    from diffusion_explained.film import script, style  # with torch, which the page's first words do not wait for

    made = st.components.v2.component("diffusion_explained_plane", js=script("plane"), css=style("plane"))
    return made(**given)


def stage(film: "PlaneFilm | None", strokes_key: str) -> None:
    """Show a film, or, without one, the board to draw on, whose strokes go into the session's state.

    The slider and the layers stay in the browser, which writes them into the address.
    """
    at, layers = address.in_browser("at", Whole(0, END), None), address.in_browser("layers", Joined(LAYERS), None)
    (token, moved), (_, shown) = address.moved("at"), address.moved("layers")
    plays = moved is None and at is None
    data = {
        "name": NAME,
        "token": token,
        "autoplay": plays,
        "at": {"name": "at", "usual": END, "value": next(one for one in (moved, at, END) if one is not None)},
        "layers": {"name": "layers", "usual": USUAL_LAYERS, "value": shown or layers or USUAL_LAYERS},
        "pen": film is None,
        "film": None if film is None else film.to_message(),
    }

    def drawn() -> None:
        st.session_state[strokes_key] = getattr(st.session_state[f"{NAME}_stage"], "strokes", None)

    _component(data=data, key=f"{NAME}_stage", default={"strokes": None}, on_strokes_change=drawn)


def live(chart: "Chart", panel: int, preview: dict[str, object], title: str) -> None:
    """Show the loss of a training run; and in a panel of the stage, how its network moves points now."""
    shown: dict[str, object] = {"stage": NAME, "panel": panel}
    if preview:
        points = preview["points"]
        shown |= {"frames": len(points.points), "caption": title, "title": title}
        shown["points"] = points.to_message()["points"]
    _component(data={"live": shown, "chart": asdict(chart)}, key=f"{NAME}_live")
