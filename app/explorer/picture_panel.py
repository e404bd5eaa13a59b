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
    sharing,
    stable,
    stable_sections,
    tries,
)
from explorer.control_kinds import SIDE, STEPS, Given, emoji_or_own
from explorer.control_runs import BothRuns
from explorer.control_words import PICTURE_NOTE, PICTURE_TRIES
from explorer.scrubber import scrubber

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
    with st.container(key="settings"):
        first, second, third, fourth = st.columns(4, gap="medium")
        scale = controls.slider(
            first, part_labels.PicturePanel.scale, 0.0, 1.5, 1.0, 0.05, key="picture_scale",
            help=part_labels.PicturePanel.scale_help,
        )  # fmt: skip
        steps = controls.steps(second, labels.STEPS, sharing.up_to(STEPS, sharing.STEPS), 15, key="picture_steps")
        seed = controls.number(third, labels.SEED, 0, 99_999, 0, key="picture_seed")
        usual = stable.usual(stable.MICRO).guidance_scale
        guidance = controls.slider(fourth, labels.SCALE, 0.0, 12.0, usual, 0.5, key="picture_w", help=labels.OFF)
        sharing.say(labels.MOST_STEPS.format(steps=sharing.STEPS))
    ask = BothRuns(prompt, scale, steps, guidance, seed)
    with result:
        _drawn(ask, given)
    saying, trying = st.columns(2, gap="large")
    with trying:
        tries.offer(PICTURE_TRIES)
    saying.header(part_labels.PicturePanel.what, anchor=False)
    saying.markdown(PICTURE_NOTE)
    programs.show(picture_runs.program(ask, given))


def _drawn(ask: BothRuns, given: Given) -> None:
    drawn = None
    with page.progress(labels.DRAWING_TWICE) as tell:
        try:
            drawn = picture_runs.draw(ask, given, tell)
        except (ValueError, OSError) as error:
            st.error(page.literal(str(error)), icon=":material/error:")
    if drawn is None:
        page.end()
    stable_sections.kind(drawn.label, drawn.model)
    scrubber(drawn.film, key="picture_film", keep=True)
    words, save = st.columns([3, 1], vertical_alignment="center")
    words.markdown(part_labels.PicturePanel.same_noise)
    save.download_button(
        labels.Control.save, png(pixels(drawn.controlled)[0]), f"picture-{ask.seed}.png", "image/png",
        icon=":material/download:", on_click="ignore", width="stretch",
    )  # fmt: skip


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
