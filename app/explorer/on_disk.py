"""What is on this machine to choose from: models in the hub's cache, and models and LoRAs in a visitor's folder."""

import os
from pathlib import Path

import streamlit as st

from diffusion_explained.devices import choose_device
from diffusion_explained.stable_diffusion.forecasts import how_it_fits
from diffusion_explained.stable_diffusion.listing import INDEX
from diffusion_explained.stable_diffusion.on_disk import OnDisk, models_on_disk
from explorer import controls, page, part_labels

FORGET = 60  # seconds after which the folders are read again
CACHE = ""  # as a folder's name: the hub's cache
NAME = 300  # the most letters of a model's name, a folder or a file


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
        with st.expander(part_labels.OnDisk.unusable.format(count=len(rest)), icon=":material/block:"):
            st.markdown(
                "\n".join(f"- **{page.literal(Path(one.name).name)}**: {page.literal(one.why)}" for one in rest)
            )
    return chosen


def pick_file(words: str, kind: str, key: str, help: str, before: str = "") -> str:
    """A file of this kind that the visitor names, or chooses in a folder; empty for none.

    before: what was chosen on another page.
    """
    st.session_state.setdefault(key, before)
    name = controls.text(st, words, key=key, most=NAME, help=help).strip()
    if not name or not holds_several(name):
        return name
    file = pick(name, kind, part_labels.OnDisk.here, f"{key}_found")
    if file is None:
        st.caption(part_labels.OnDisk.none.format(kind=kind))
    return file or ""


def pick_files(words: str, kind: str, key: str, help: str) -> tuple[str, ...]:
    """A file of this kind that the visitor names, or any number of files that they choose in a folder."""
    name = controls.text(st, words, key=key, most=NAME, help=help).strip()
    if not name or not holds_several(name):
        return (name,) if name else ()
    files = [one.name for one in there(name) if one.kind == kind]
    if not files:
        st.caption(part_labels.OnDisk.none.format(kind=kind))
        return ()
    return tuple(controls.many(st, part_labels.OnDisk.here, files, files[:1], key=f"{key}_found", format_func=_stem))


def _stem(file: str) -> str:
    return Path(file).stem


def _label(one: OnDisk) -> str:
    """Its name, what it is, its size, and whether it fits."""
    called = one.name if one.name.count("/") == 1 else Path(one.name).name
    needs = "not whole, or needs another file" if one.why else how_it_fits(one.forecast, choose_device())
    return " · ".join(part for part in (called, one.title, one.size_in_words, needs) if part)
