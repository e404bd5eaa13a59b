"""What the parts of the page Control share: the settings of both runs, their film, and what is said of it."""

from collections.abc import Callable

import streamlit as st

from diffusion_explained.film import pixels, png
from explorer import controls, labels, page, part_labels, sharing, stable, stable_sections
from explorer.control_kinds import STEPS
from explorer.control_runs import BothRuns, Drawn
from explorer.scrubber import scrubber
from explorer.turns import Tell


def show_both(draw: Callable[[Tell], Drawn], name: str, seed: int, words: Callable[[Drawn], str]) -> None:
    """Draw both runs, or say why not and end the page; show their film, some words, and a button that saves.

    name: of the film's key and of the file; words: on what was drawn.
    """
    drawn = None
    with page.progress(labels.DRAWING_TWICE) as tell:
        try:
            drawn = draw(tell)
        except (ValueError, OSError) as error:
            st.error(page.literal(str(error)), icon=":material/error:")
    if drawn is None:
        page.end()
    stable_sections.kind(drawn.label, drawn.model)
    scrubber(drawn.film, key=f"{name}_film", keep=True)
    said, save = st.columns([3, 1], vertical_alignment="center")
    said.markdown(words(drawn))
    save.download_button(
        part_labels.ControlParts.save, png(pixels(drawn.controlled)[0]), f"{name}-{seed}.png", "image/png",
        icon=":material/download:", on_click="ignore", width="stretch",
    )  # fmt: skip


def ask_both(prompt: str, name: str, label: str, most: float, help: str) -> BothRuns:
    """The settings of both runs, in the address by keys that begin with a name; label, help: of the scale up to `most`.

    prompt: of the run without what is added.
    """
    with st.container(key="settings"):
        first, second, third, fourth = st.columns(4, gap="medium")
        scale = controls.slider(first, label, 0.0, most, 1.0, 0.05, key=f"{name}_scale", help=help)
        steps = controls.steps(second, labels.STEPS, sharing.up_to(STEPS, sharing.STEPS), 15, key=f"{name}_steps")
        seed = controls.number(third, labels.SEED, 0, 99_999, 0, key=f"{name}_seed")
        usual = stable.usual(stable.MICRO).guidance_scale
        guidance = controls.slider(fourth, labels.SCALE, 0.0, 12.0, usual, 0.5, key=f"{name}_w", help=labels.OFF)
        sharing.say(labels.MOST_STEPS.format(steps=sharing.STEPS))
    return BothRuns(prompt, scale, steps, guidance, seed)
