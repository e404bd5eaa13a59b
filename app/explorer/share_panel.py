"""Share: what a visitor may take from any page: its link, its figures, its film, its numbers, its program as a cell.

A page tells what it shows while it runs: `explorer.scrubber` its films, `programs.show` its program and numbers. The
panel, at the top of every page, then offers all of it. What only the browser can make (PNG, SVG, video) is made by
`share_panel.js`; a film as GIF and the numbers are made here, when they are asked for.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from explorer import address, readers

if TYPE_CHECKING:
    from torch import Tensor

    from diffusion_explained.film import Film

SHOW = "from PIL import Image\n\nfrom diffusion_explained.film import mosaic, pixels\n\nImage.fromarray({})"


@dataclass
class Offers:
    """What the page shows.

    films: the component's key -> its film of pictures; panels: those that its GIF shows; program: the same in Python;
    picture: the program's expression for the pixels [H, W, 4] that the page shows; numbers: what computes the tensors
    behind the picture.
    """

    page: str = ""
    films: "dict[str, Film]" = field(default_factory=dict)
    panels: tuple[int, ...] = (0, 1)
    program: str = ""
    picture: str = ""
    numbers: "Callable[[], Mapping[str, Tensor]] | None" = None


def offers() -> Offers:
    """What the session's present page offers; a page that runs outside of `offered` has this too."""
    if "offers" not in st.session_state:
        st.session_state.offers = Offers()
    return st.session_state.offers


@contextmanager
def offered(page: str) -> Iterator[None]:
    """A run of a page, with the toolbar above it: what the page has told by its end can be shared."""
    st.session_state.offers = Offers(page or "start")
    with st.container(
        key="toolbar", horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"
    ):
        readers.choose()
        panel = st.popover("Share", icon=":material/share:")
        _component("projector", data={"key": "P"}, key="projector")
    try:
        yield
    except address.EndedError:  # what was shown until here can be shared
        _fill(panel)
        raise
    _fill(panel)


def _component(script: str, **given: object) -> None:
    here = Path(__file__)
    js, css = ("\n".join(here.with_name(name).read_text("utf-8") for name in names) for names in (
        ("page_parts.js", f"{script}.js"), ("toolbar.css",)))  # fmt: skip
    st.components.v2.component(f"diffusion_explained_{script}", js=js, css=css)(**given)


def _fill(panel: "st.delta_generator.DeltaGenerator") -> None:
    offer, query = offers(), address.visit()
    text, link = cell(offer.program, offer.picture), address.written()
    with panel.container(gap="small"):
        left_out = " and ".join(query.left_out)
        _component("share_panel", data={"page": offer.page, "cell": text, "left_out": left_out}, key="share_panel")
        if text:
            _save("Notebook", lambda: notebook(text), f"{offer.page}.ipynb", "application/x-ipynb+json", "notebook")
        if offer.films:
            _save("Film (GIF)", lambda: film_as_gif(offer), f"{offer.page}.gif", "image/gif", "gif")
        if offer.numbers is not None:
            file_name, mime = f"{offer.page}.safetensors", "application/octet-stream"
            _save("Trace: tensors and settings", lambda: trace(offer, link), file_name, mime, "trace")


def _save(words: str, make: Callable[[], bytes], file_name: str, mime: str, kind: str) -> None:
    st.download_button(words, make, file_name, mime, key=f"share_{kind}", on_click="ignore", width="stretch")


def cell(program: str, picture: str) -> str:
    """A page's program as a cell of a notebook, which ends with the picture that the page shows."""
    if not program or not picture:
        return program
    torch = "" if "torch." not in picture or "import torch\n" in program else "import torch\n"
    return f"{program}\n\n{torch}{SHOW.format(picture)}"


def notebook(cell: str) -> bytes:
    """A notebook of one cell (nbformat 4.5)."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    one = {"cell_type": "code", "execution_count": None, "id": "same", "metadata": {}, "outputs": [], "source": cell}
    whole = {"cells": [one], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1).encode()


def film_as_gif(offer: Offers) -> bytes:
    """The page's first film, of the panels that the page chose."""
    from diffusion_explained.film import gif

    film = next(iter(offer.films.values()))
    return gif(film, [panel for panel in offer.panels if panel < len(film.titles)])


def trace(offer: Offers, link: str) -> bytes:
    """The tensors behind the picture as a safetensors file; its metadata has the page's settings and its program."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in offer.numbers().items()}
    return save(tensors, {"page": offer.page, "settings": link, "program": offer.program})
