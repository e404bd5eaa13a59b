"""The part of the page Control in which two prompts hold, each in its own region of the picture."""

from dataclasses import asdict

import streamlit as st

from explorer import controls, labels, page, part_labels, programs, region_runs, stable_sections, tries
from explorer.control_kinds import ask_regions
from explorer.control_parts import ask_both, show_both
from explorer.control_runs import Drawn
from explorer.control_words import REGION_NOTE, REGION_TRIES
from explorer.region_runs import RegionRuns

WHOLE, PROMPTS = "a dog and a rocket", ("a dog", "a rocket")


def show() -> None:
    """The whole part: prompts and regions, both runs, and the program that gives the same."""
    columns = st.columns([1, 1, 1.4])
    things = [
        controls.text(column, label, usual, key=f"regions_{k}", help=labels.Control.known)
        for k, (column, label, usual) in enumerate(zip(columns, part_labels.RegionPanel.prompts, PROMPTS, strict=False))
    ]
    whole = controls.text(columns[2], part_labels.RegionPanel.whole, WHOLE, key="regions_whole")
    with st.container(key="result-first"):
        giving, result = st.columns([1, 2.2], gap="large")
    with giving:
        given, places = ask_regions()
        said = controls.switch(
            st, part_labels.RegionPanel.places, True, key="regions_said", help=part_labels.RegionPanel.places_help
        )
    prompts = [
        f"{prompt} {place}" if said and prompt.strip() else prompt for prompt, place in zip(things, places, strict=True)
    ]
    both = ask_both(whole, "regions", part_labels.RegionPanel.scale, 1.0, part_labels.RegionPanel.scale_help)
    ask = RegionRuns(**asdict(both), prompts=tuple(prompts), things=tuple(things))

    def words(drawn: Drawn) -> str:
        found = region_runs.recognised(ask, given, drawn)
        if not found:
            return labels.Control.same_noise
        first, plain_first, second, plain_second = map(page.literal, found)
        return part_labels.RegionPanel.recognised.format(
            first=first, second=second, plain_first=plain_first, plain_second=plain_second
        )

    with result:
        stable_sections.empty_prompt(min((whole, *prompts), key=lambda prompt: len(prompt.strip())))
        show_both(lambda tell: region_runs.draw(ask, given, tell), "regions", ask.seed, words)
    saying, trying = st.columns(2, gap="large")
    with trying:
        tries.offer(REGION_TRIES)
    saying.header(part_labels.RegionPanel.what, anchor=False)
    saying.markdown(REGION_NOTE)
    programs.show(region_runs.program(ask, given))
