"""The scrubber as a Streamlit component: the same script that the notebooks use."""

from collections.abc import Callable

import streamlit as st

from diffusion_explained.beyond.part_films import PartFilm
from diffusion_explained.film import Film, Lead, script, style
from explorer import address, share_panel
from explorer.setting_types import Whole


def scrubber(
    film: Film | PartFilm,
    *,
    key: str,
    name: str = "frame",
    frame: int | None = None,
    autoplay: bool = False,
    keep: bool = False,
    ask: str = "",
    on_answer: Callable[[int], None] | None = None,
) -> None:
    """Show a film at the frame that the address gives under `name`, or otherwise at `frame` (the last by default).

    Moving its slider stays in the browser, which writes the frame into the address; so do the choice of the image that
    is shown large, as `image`, and the place from which clouds are seen, as `turn` and `tilt`. With name="" the film
    waits for another one, to which the frame of the address is left.

    autoplay: play, unless the address gives a frame; keep: a new film with the same number of frames starts at the
    slider's present place; ask: a button beside the slider, with which the visitor answers by a frame:
    `on_answer(frame)`.
    """
    component = st.components.v2.component("diffusion_explained_scrubber", js=script("scrubber"), css=style("scrubber"))
    if isinstance(film, Film):
        share_panel.offers().films[key] = film
    message, last = film.to_message(), len(film.captions) - 1
    usual = last if frame is None else frame
    begin, asked = address.frame(name, message["key"], last, usual)
    token, moved = address.moved(name or "frame")
    data = {
        "film": message,
        "frame": begin if moved is None else min(moved, last),
        "usual": last if autoplay else usual,
        "name": name,
        "autoplay": autoplay and not asked and moved is None,
        "keep": keep,
        "token": token,
        "image": _image(film.lead) if isinstance(film, Film) and film.lead and len(film.lead.names) > 1 else None,
        "turn": _turn() if isinstance(film, PartFilm) and film.parts[0].kind in ("cloud", "molecule") else None,
        "ask": ask,
    }
    if on_answer is None:
        component(data=data, key=key)
        return

    def answered() -> None:
        answer = getattr(st.session_state[key], "answer", None)
        if isinstance(answer, int) and 0 <= answer <= last:  # a client can send anything
            on_answer(answer)

    component(data=data, key=key, on_answer_change=answered)


def _image(lead: Lead) -> dict[str, object]:
    """What the browser needs to write the choice of the large image into the address."""
    asked = address.in_browser("image", Whole(0, len(lead.names) - 1), None)
    return {"name": "image", "usual": lead.pick, "value": lead.pick if asked is None else asked}


def _turn() -> dict[str, object]:
    """What the browser needs to write into the address from where clouds are seen, in degrees."""
    found = {}
    for name, (low, high, usual) in {"turn": (-180, 180, 30), "tilt": (-90, 90, 20)}.items():
        asked, (_, moved) = address.in_browser(name, Whole(low, high), None), address.moved(name)
        value = next(one for one in (moved, asked, usual) if one is not None)
        found[name] = {"name": name, "usual": usual, "value": value}
    return found
