"""What is on this machine to choose from: models in the hub's cache, and models and LoRAs in a visitor's folder."""

import os
from pathlib import Path

import streamlit as st

from diffusion_explained.devices import choose_device
from diffusion_explained.stable_diffusion.forecasts import how_it_fits
from diffusion_explained.stable_diffusion.listing import INDEX
from diffusion_explained.stable_diffusion.on_disk import OnDisk, models_on_disk
from explorer import controls, page

FORGET = 60  # seconds after which the folders are read again
CACHE = ""  # as a folder's name: the hub's cache


@st.cache_data(ttl=FORGET, show_spinner="Reading what is in the folder")
def there(folder: str) -> list[OnDisk]:
    """What is in a folder; nothing for one that cannot be read."""
    try:
        return models_on_disk([folder] if folder else ())
    except (OSError, ValueError):
        return []


def holds_several(name: str) -> bool:
    """Whether a name is that of a folder that is no pipeline itself."""
    folder = os.path.expanduser(name)
    return os.path.isdir(folder) and not os.path.isfile(os.path.join(folder, INDEX))


def pick(folder: str, kind: str, words: str, key: str) -> str | None:
    """The one that the visitor chooses of this kind in a folder; None if there is none. Says what cannot be used."""
    found = there(folder)
    offered = {one.name: _label(one) for one in found if one.kind == kind}
    rest = [one for one in found if one.kind == "other"]
    chosen = None
    if offered:
        names = list(offered)
        chosen = controls.choice(st, words, names, names[0], key=key, format_func=offered.get, always=True)
    if rest and folder != CACHE:
        with st.expander(f"Not usable: {len(rest)}", icon=":material/block:"):
            st.markdown(
                "\n".join(f"- **{page.literal(Path(one.name).name)}**: {page.literal(one.why)}" for one in rest)
            )
    return chosen


def _label(one: OnDisk) -> str:
    """Its name, what it is, its size, and whether it fits."""
    called = one.name if one.name.count("/") == 1 else Path(one.name).name
    needs = "not whole, or needs another file" if one.why else how_it_fits(one.forecast, choose_device())
    return " · ".join(part for part in (called, one.title, one.size_in_words, needs) if part)
