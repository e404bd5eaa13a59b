"""The control pictures of the page Control: of each kind the controls, the picture, and the program that makes it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.film import pixels, png
from diffusion_explained.micro.control_pictures import (
    BLUE,
    RED,
    as_picture,
    edge_f1,
    edges,
    round_areas,
    scribble,
)
from diffusion_explained.stable_diffusion.masks import rectangle_mask
from explorer import address, controls, emoji, page, part_labels
from explorer.board import board
from explorer.uploads import own_image

SIDE = 128
STEPS = (1, 2, 4, 8, 12, 15, 20, 30, 50)
OUTLINE, BLANK = "an outline", "blank paper"
PEN, PEN_WIDTH = {"pen": "#1d2530"}, 4  # as wide as the lines of the training's scribbles
AREAS, AREA_WIDTH = {"first thing": "#d7263d", "second thing": "#0068a8"}, 24
PLACES = {
    "first on the right": ((0.5, 0.0, 0.48), (-0.5, 0.0, 0.48)),
    "first on the left": ((-0.5, 0.0, 0.48), (0.5, 0.0, 0.48)),
    "first above": ((0.0, -0.5, 0.48), (0.0, 0.5, 0.48)),
    "first below": ((0.0, 0.5, 0.48), (0.0, -0.5, 0.48)),
    "small and large": ((-0.6, -0.6, 0.35), (0.3, 0.3, 0.6)),
    BLANK: (),
}
PAINTED = "  # without what you painted"
PROGRAM = "from diffusion_explained.micro.control_pictures import"
ON_WHITE = "from diffusion_explained.micro.reconstruction import on_white\n"


@dataclass(frozen=True)
class Halves:
    """Two regions: the rectangle of the first, as `rectangle_mask` takes it, and what a prompt says of each place."""

    first: tuple[tuple[float, float], tuple[float, float]]
    words: tuple[str, str]


LEFT, RIGHT, ABOVE, BELOW = "on the left", "on the right", "at the top", "at the bottom"
REGIONS = {
    "first on the right": Halves(((0.5, 1.0), (0.0, 1.0)), (RIGHT, LEFT)),
    "first on the left": Halves(((0.0, 0.5), (0.0, 1.0)), (LEFT, RIGHT)),
    "first above": Halves(((0.0, 1.0), (0.0, 0.5)), (ABOVE, BELOW)),
    "first below": Halves(((0.0, 1.0), (0.5, 1.0)), (BELOW, ABOVE)),
}


@dataclass(frozen=True, eq=False)
class Given:
    """What the visitor gives, [1, 3, 128, 128], and the program that makes it.

    A control picture in [0, 1], in the program `control`; or a reference in [-1, 1], in the program `picture`.
    """

    picture: Tensor
    program: str

    @property
    def key(self) -> str:
        """Identifies the picture."""
        return hashlib.sha256(self.picture.numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Kind:
    """A kind of control picture.

    prompt: the usual one; ask: shows the controls and gives the picture; measured: words on a drawn picture
    [1, 3, 128, 128] and one without control, or "".
    """

    prompt: str
    ask: Callable[[], Given]
    measured: Callable[[Given, Tensor, Tensor], str] = lambda *_: ""


def emoji_or_own(
    key: str, of: str, usual: str, upload_of: str, refused: Callable[[ValueError, str], str]
) -> tuple[Tensor, str]:
    """A picture [1, 3, 128, 128] in [-1, 1], an emoji or the visitor's own, and the program that makes it as `picture`.

    of, upload_of: the labels of the two; refused: says of an error and of the emoji's name that a file cannot be used.
    """
    name, style = emoji.pick(of, f"{key}_of", usual)
    picture = emoji.emoji(name, style)
    program = f"{_of_emoji(name, style, ON_WHITE)}\npicture = on_white(emoji.images[chosen][:1])"
    upload = controls.upload(upload_of, key=f"{key}_upload", help=part_labels.ControlKinds.scaled.format(side=SIDE))
    if upload is not None:
        try:
            picture, said = own_image(upload.getvalue(), SIDE, 3)
            address.leaves_out("your own picture")
            program = (
                "from diffusion_explained.data import load_image\n\n"
                f'picture = load_image("picture.png", {SIDE}, 3)  # your own file'
            )
            for sentence in said:
                st.caption(sentence)
        except ValueError as error:
            st.error(page.literal(refused(error, name)), icon=":material/broken_image:")
    return picture, program


def _of_emoji(name: str, style: str, more: str = "") -> str:
    return f"""from diffusion_explained.micro.emoji import STYLES, load_emoji_sample
{more}
emoji = load_emoji_sample()
chosen = (emoji.subject == emoji.names.index({name!r})) & (emoji.style == STYLES.index({style!r}))"""


def _scribble() -> Given:
    lines = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    program = f"import torch\n\ncontrol = torch.zeros(1, 3, {SIDE}, {SIDE})"
    if controls.segments(st, part_labels.ControlKinds.begin, (OUTLINE, BLANK), OUTLINE, key="scribble_from") == OUTLINE:
        name, style = emoji.pick(part_labels.ControlKinds.outline, "outline", "pear")
        lines = scribble(emoji.shape(name, style))
        program = (
            f"{PROGRAM} as_picture, scribble\n{_of_emoji(name, style)}\n"
            f"control = as_picture(scribble(emoji.images[chosen][:1, 3] > {emoji.OPAQUE}))"
        )
    drawn = board(
        1 - 2 * as_picture(lines), key="scribble", paints=PEN, brush=PEN_WIDTH, words="Your scribble: draw lines"
    )
    if drawn is not None:
        address.leaves_out("what you drew")
        lines = lines | (drawn[3] >= 0.5)
        program += "  # without what you drew"
    return Given(as_picture(lines), program)


def _edges() -> Given:
    def refused(error: ValueError, name: str) -> str:
        return f"This file cannot be used: {error} The edges are those of the {name}."

    image, program = emoji_or_own(
        "edges", part_labels.ControlKinds.edges, "rocket", part_labels.ControlKinds.upload, refused
    )
    program += f"\n\n{PROGRAM} as_picture, edges\n\ncontrol = as_picture(edges(picture))"
    return Given(as_picture(edges(image)), program)


def _agreement(given: Given, controlled: Tensor, plain: Tensor) -> str:
    asked = given.picture[:, 0] > 0.5
    with_it, without = (float(edge_f1(edges(each), asked)) for each in (controlled, plain))
    return (
        f"The edges that are drawn and the edges that were asked for agree within one pixel: F1 **{with_it:.2f}** with "
        f"control, {without:.2f} without (1 is all of them, and no others)."
    )


def _layout() -> Given:
    places = controls.choice(st, part_labels.ControlKinds.where, list(PLACES), next(iter(PLACES)), key="places")
    picture = round_areas(PLACES[places])
    program = f"{PROGRAM} round_areas\n\ncontrol = round_areas({PLACES[places]!r})"
    painted = paint_areas(picture, _on_paper(picture), "layout", part_labels.ControlKinds.layout_board)
    return Given(painted, program + PAINTED * (painted is not picture))


def ask_regions() -> tuple[Given, tuple[str, str]]:
    """The controls of a red and a blue region, in the program `masks`; and what a prompt says of each place."""
    places = controls.choice(st, part_labels.ControlKinds.where, list(REGIONS), next(iter(REGIONS)), key="regions")
    across, down = REGIONS[places].first
    first = rectangle_mask(SIDE, SIDE, across, down)
    picture = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float32, device="cpu")
    picture[0, RED], picture[0, BLUE] = first, 1 - first
    pale = 0.7 + 0.3 * _on_paper(picture)  # so that what is painted over it is seen
    painted = paint_areas(picture, pale, "regions", part_labels.ControlKinds.regions_board)
    program = f"""from diffusion_explained.stable_diffusion.masks import rectangle_mask

first = rectangle_mask({SIDE}, {SIDE}, {across!r}, {down!r}){PAINTED * (painted is not picture)}
masks = [first, 1 - first]"""
    return Given(painted, program), REGIONS[places].words


def paint_areas(picture: Tensor, paper: Tensor, key: str, words: str) -> Tensor:
    """A board on which the visitor paints red and blue areas; the picture [1, 3, 128, 128] with these in it.

    paper: what the board shows, in [-1, 1]; words: what it is. The picture itself is returned if nothing is painted.
    """
    drawn = board(paper, key=key, paints=AREAS, brush=AREA_WIDTH, words=words)
    if drawn is None:
        return picture
    address.leaves_out("what you painted")
    where, first = drawn[3] >= 0.5, drawn[0] > drawn[2]
    picture = picture.clone()
    for channel, area in ((RED, where & first), (BLUE, where & ~first)):
        picture[0, :, area] = 0
        picture[0, channel, area] = 1
    return picture


def _on_paper(layout: Tensor) -> Tensor:
    """A layout [1, 3, H, W] in the board's colours on white, in [-1, 1]."""
    from diffusion_explained.palette import rgb

    paper = torch.ones(1, 3, *layout.shape[2:])
    for channel, colour in zip((RED, BLUE), AREAS.values(), strict=True):
        paper[0, :, layout[0, channel] > 0.5] = torch.tensor(rgb(colour))[:, None] / 127.5 - 1
    return paper


OF_KINDS = {
    "scribble": Kind("a lemon", _scribble),
    "edges": Kind("a red pencil", _edges, _agreement),
    "layout": Kind("a cat and a dog", _layout),
}


def read(given: Given) -> None:
    """Show the picture as the network reads it."""
    shown = png(pixels(2 * given.picture - 1)[0])
    page.gallery([(part_labels.ControlKinds.reads, part_labels.ControlKinds.reads_alt, shown)])
