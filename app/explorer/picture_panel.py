"""The part of the page Control in which a picture is the prompt: for its style, or for what it shows."""

import streamlit as st

from diffusion_explained.film import pixels, png
from diffusion_explained.micro.made_styles import MADE
from diffusion_explained.micro.random_styles import random_style
from explorer import (
    controls,
    labels,
    page,
    part_labels,
    picture_runs,
    programs,
    tries,
)
from explorer.control_kinds import SIDE, Given, emoji_or_own
from explorer.control_parts import ask_both, show_both
from explorer.control_words import PICTURE_NOTE, PICTURE_TRIES

AS_IT_IS, MADE_UP = "as it is", "made up"
LOOKS = {"ink": "outlines", AS_IT_IS: AS_IT_IS, "mosaic": "mosaic", MADE_UP: "a made-up style"}
MOST_STYLE = 9999
PROMPT = "rocket"


def show() -> None:
    """The whole part: the picture, both runs, and the program that gives the same."""
    prompt = controls.text(st, labels.PROMPT, PROMPT, key="picture_prompt", help=part_labels.PicturePanel.prompt_help)
    with st.container(key="result-first"):
        giving, result = st.columns([1, 2.2], gap="large")
    with giving:
        given = _reference()
        alt = part_labels.PicturePanel.shown_alt.format(side=SIDE)
        page.gallery([(part_labels.PicturePanel.shown, alt, png(pixels(given.picture)[0]))])
    ask = ask_both(prompt, "picture", part_labels.PicturePanel.scale, 1.5, part_labels.PicturePanel.scale_help)
    with result:
        show_both(
            lambda tell: picture_runs.draw(ask, given, tell), "picture", ask.seed,
            lambda _: part_labels.PicturePanel.same_noise,
        )  # fmt: skip
    saying, trying = st.columns(2, gap="large")
    with trying:
        tries.offer(PICTURE_TRIES)
    saying.header(part_labels.PicturePanel.what, anchor=False)
    saying.markdown(PICTURE_NOTE)
    programs.show(picture_runs.program(ask, given))


def _reference() -> Given:
    """The controls of the reference: an emoji or a picture of the visitor's own, and its look."""
    picture, program = emoji_or_own(
        "picture", part_labels.PicturePanel.of, "pear", part_labels.PicturePanel.upload,
        lambda error, name: part_labels.PicturePanel.refused.format(error=error, name=name),
    )  # fmt: skip
    look = controls.choice(
        st, part_labels.PicturePanel.look, list(LOOKS), "ink", key="picture_look", format_func=LOOKS.get
    )
    if look in MADE:
        picture = MADE[look](picture)
        program += f"\n\nfrom diffusion_explained.micro.made_styles import {look}\n\npicture = {look}(picture)"
    elif look == MADE_UP:
        number = controls.number(st, part_labels.PicturePanel.made, 0, MOST_STYLE, 0, key="picture_style")
        picture = random_style(number)(picture)
        program += (
            "\n\nfrom diffusion_explained.micro.random_styles import random_style\n\n"
            f"picture = random_style({number})(picture)"
        )
    return Given(picture.contiguous(), program)
