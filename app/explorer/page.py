"""The frame of every page: its head, its pictures, and progress bars."""

import base64
import functools
import html
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer import address, sharing
from explorer.page_parts import PageWords
from explorer.readers import reader
from explorer.turns import Stopwatch, Tell
from explorer.words import literal

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator
    from torch import Tensor

PATIENCE = 0.3  # seconds of work after which a progress bar appears
SHORT = 5  # letters that fit above a picture on a phone; a longer caption is turned upright there
LONG = 20.0  # seconds; longer work does not begin by itself
REDRAW = 3.0  # seconds between redrawings of a result that grows
FORECAST = 2.0  # seconds of work after which the bar also shows the time that is left


def equations(formulas: Sequence[str]) -> None:
    """The page's formulas in a row, which wraps on a narrow screen, for a reader of formulas."""
    if not reader().formulas:
        return
    with st.container(key="formulas", horizontal=True, horizontal_alignment="center", gap="medium"):
        for formula in formulas:
            st.latex(formula, width="content")


def top(words: PageWords) -> "DeltaGenerator":
    """The page's title and lead; return the place beside the title, for the switch between the data sets."""
    with st.container(key="top", horizontal=True, vertical_alignment="center"):
        st.title(words.title, anchor=False, width="content")
        corner = st.container(width="content")
    st.markdown(words.lead)
    return corner


def bench() -> "tuple[DeltaGenerator, DeltaGenerator, DeltaGenerator]":
    """The places of the picture, of what stands beside it, and of the settings below it, in the order of a phone."""
    with st.container(key="bench"):
        picture, beside = st.columns([3.35, 1], gap="large")
    return picture, beside, st.container(key="settings")


def below(words: PageWords) -> None:
    """The page's formulas and what else there is to know about its picture."""
    equations(words.formulas)
    notes(words)


def notes(words: PageWords) -> None:
    """What else there is to know about the page's picture, unless the reader asks for code."""
    if words.notes and reader().notes:
        st.markdown("\n".join(f"- {note}" for note in words.notes))


def picture(where: Any, data: bytes, alt: str, *, caption: str = "", width: int | str = "stretch") -> None:
    """Show a PNG with its alternative text, as wide as its place, or some pixels wide; `where` is `st` or a column.

    `st.image` sends an address of the picture, at which the server drops it as soon as another run of the page begins
    or the visitor leaves: on a busy machine the browser asks too late and shows a torn image. So the picture itself is
    sent.
    """
    words = html.escape(alt, quote=True)
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    where.html(
        f'<figure class="picture"><img src="data:image/png;base64,{base64.b64encode(data).decode()}" alt="{words}">'
        f"{below}</figure>",
        width=width,
    )


def strip(
    rows: "Mapping[str, Tensor | Sequence[Tensor]]",
    captions: Sequence[str],
    alt: str,
    names: Mapping[str, str] | None = None,
) -> None:
    """Show rows of pictures, name -> N of [C, H, W] in [-1, 1], under common captions, as wide as the page.

    names: the words to show for the names of some rows.
    """
    import torch

    from diffusion_explained.film import mosaic, pixels, png

    gap = 2
    cells = "".join(f"<span>{html.escape(caption)}</span>" for caption in captions)
    kind = "captions words" if max(map(len, captions)) > SHORT else "captions"
    parts = [f'<div class="name"></div><div class="{kind}" style="--n: {len(captions)}">{cells}</div>']
    for key, images in rows.items():
        name = (names or {}).get(key, key)
        sheet = base64.b64encode(png(mosaic(pixels(torch.stack(list(images))), len(captions), gap))).decode()
        words = html.escape(f"{alt}: {name}, {len(captions)} pictures ({', '.join(captions)})", quote=True)
        picture = f'<img src="data:image/png;base64,{sheet}" alt="{words}">'
        parts.append(f'<div class="name">{html.escape(name)}</div>{picture}')
    st.html(f'<div class="strip">{"".join(parts)}</div>')


def gallery(pictures: "Sequence[tuple[str, str, bytes]]", *, note: str = "") -> None:
    """Show pictures side by side, as many per row as fit: (title, alternative text, PNG) each."""
    figures = "".join(
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<img src="data:image/png;base64,{base64.b64encode(data).decode()}" alt="{html.escape(words, quote=True)}">'
        "</figure>"
        for title, words, data in pictures
    )
    kind = "gallery three" if len(pictures) == 3 else "gallery"
    st.html(f'<div class="{kind}">{figures}</div>')
    if note:
        st.caption(note)


def colour_scale(limit: float, words: str) -> None:
    """Show the colour scale of a signed field: the diverging map from -limit to limit, with numbers."""
    from diffusion_explained.palette import DIVERGING

    marks = (-limit, -limit / 2, 0, limit / 2, limit)
    numbers = "".join(f"<span>{number:+.3g}</span>" if number else "<span>0</span>" for number in marks)
    label = f"Colour scale: blue is {-limit:g}, white is 0, red is {limit:g}"
    colours = f"background: linear-gradient(to right, {', '.join(DIVERGING)})"
    st.html(
        f'<div class="scale"><div>{html.escape(words)}</div>'
        f'<div class="map" role="img" aria-label="{label}" style="{colours}"></div>'
        f'<div class="numbers">{numbers}</div></div>'
    )


def colour_notice(data: str) -> None:
    """Say how noise of colour images is shown; digits have one channel and need no explanation."""
    if data != "mnist":
        st.caption(
            "Noise panels show one value per pixel, (red + green + blue) / √3: blue is below zero, red is above."
        )


def dress() -> None:
    """Add the style sheet for what Streamlit's theme has no setting: the maximal width, and the layout of `strip`."""
    st.html(Path(__file__).with_name("page.css"))


def fragment(part: Callable[[], None], *, run_every: float | None = None) -> Callable[[], None]:
    """`st.fragment` in a container that belongs to the page.

    When a fragment runs again, Streamlit drops the messages of its previous run that were not sent yet, including the
    one that reserves its place on the page. The elements after the fragment then have no valid place ("Bad delta path
    index"), and the page stays unfinished. The container reserves the place outside of the fragment.
    """

    @functools.wraps(part)
    def whole() -> None:
        with suppress(address.EndedError):
            part()
        if getattr(get_script_run_ctx(), "fragment_ids_this_run", None):  # only the fragment runs, not the page
            address.write_part(part.__name__)

    run = st.fragment(whole, run_every=run_every)

    def placed() -> None:
        with st.container():
            run()

    return placed


def end() -> NoReturn:
    """End the page here: what it has shown stays, and its address is written."""
    raise address.EndedError


@contextmanager
def needed(what: str) -> Iterator[None]:
    """Around reading a file that the page needs: if it is missing or damaged, say so and end the page."""
    try:
        yield
    except (OSError, ValueError) as error:
        st.error(literal(f"{what} cannot be read: {error}"), icon=":material/sd_card_alert:")
        end()


def duration(seconds: float) -> str:
    """A time in a readable unit: ms, s or minutes."""
    if seconds < 0.1:
        return f"{float(f'{1000 * seconds:.2g}'):g} ms"  # two digits, and 100 is not 1e+02
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes"


def progress_words(what: str, doing: str, part: float | None, spent: float) -> str:
    """What is being done, and the time that is left at the pace of the `spent` seconds of work so far.

    part: the share that is done; None while the work waits, when no time can be estimated.
    """
    words = [what, doing] if doing else [what]
    if part is not None and spent > FORECAST and 0 < part < 1:
        words.append(f"about {duration(max(1, round(spent * (1 - part) / part)))} left")
    return " · ".join(words)


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """A progress bar that appears only if the work takes longer than PATIENCE; yields a `Tell`.

    Call it with (part done, what is being done), and with a part of None while the work waits for others. After
    FORECAST seconds of work the bar also shows about how much time is left.
    """
    address.write_early()
    place, begin, work, reached = st.empty(), time.monotonic(), Stopwatch(), 0.0

    def tell(part: float | None, doing: str = "") -> None:
        nonlocal reached
        work.report(part)
        reached = reached if part is None else min(1.0, part)
        if time.monotonic() - begin > PATIENCE:
            place.progress(reached, text=progress_words(what, doing, part, work.seconds))

    try:
        yield tell
    finally:
        place.empty()


def may_begin(seconds: float, key: Hashable) -> bool:
    """Whether a run of this length may begin. A long one waits until the visitor presses its button, once per key.

    On a shared explorer no long run begins.
    """
    if seconds <= LONG or (st.session_state.get("long_begun") == key and not sharing.is_shared()):
        return True
    long = f"about {duration(seconds)} on two quiet cores" if math.isfinite(seconds) else "much longer than usual"
    if sharing.is_shared():
        bounds = f"this computation, which takes {long}, does not begin: choose fewer steps or images"
        st.info(sharing.sentence(bounds), icon=":material/groups:")
        return False
    words, button = st.columns([2.2, 1], gap="medium", vertical_alignment="center")
    words.info(
        f"With these settings the computation takes {long}, so nothing has begun.",
        icon=":material/hourglass_top:",
    )
    if button.button("Begin", type="primary", icon=":material/play_arrow:", key="begin_long", width="stretch"):
        st.session_state.long_begun = key
        return True
    return False
