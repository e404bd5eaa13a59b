"""Start: images emerge from noise at once; a path leads to the other pages."""

from functools import partial
from pathlib import Path

import streamlit as st
from explorer import address, choices, labels, page, sharing, tour
from explorer.page_words import PAGES, PATH
from explorer.setting_types import Whole

MOST_SEED = 99_999
THUMBNAILS = Path(__file__).parents[1] / "thumbnails"  # pieces of the pages' own pictures
STEPS = {"digits": 20, "pictures": 8, "slow": 4}

address.films("frame", "image", "drawn")
with st.container(key="hero"):
    opening, side = st.columns([2.2, 1], gap="large", vertical_alignment="bottom")
with opening:
    st.title(labels.Start.title, anchor=False)
    st.markdown(labels.Start.lead)
    sharing.say(labels.Start.bounds)
with side.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
    tour.begin()
    choice = choices.choose()
    again = st.container(width="content")
seed = address.hidden("start_seed", Whole(0, MOST_SEED), 0)


def other_noise() -> None:
    st.session_state.start_seed = (seed + 1) % (MOST_SEED + 1)


again.button(labels.Start.other_noise, on_click=other_noise, icon=":material/casino:")
with st.spinner(labels.Start.loading):  # importing torch takes seconds; the visitor already has something to read
    from explorer import draw_it, programs
    from explorer.runs import Settings, class_names, model, run, states
    from explorer.scrubber import scrubber

network = model(choice.model)
settings = Settings(
    choice.model,
    network.default_sampler,
    STEPS[choice.pace],
    tuple(range(10)),
    network.default_guidance_scale,
    seed=seed,
)
with page.progress(labels.DRAWING) as tell:
    kept = run(settings, tell, overview=True)
half = len(kept.film.captions) // 2  # where a browser rests that is asked for less motion: half is seen there
scrubber(kept.film, key="start", frame=half, autoplay=True)

st.caption(
    labels.Start.drawn.format(
        classes=", ".join(class_names(choice.data)),
        network=choices.words_of(choice.model),
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
    )
)

draw_it.show(choice)
st.header(labels.Start.inside, anchor=False)
number = 0
with st.container(key="path"):
    for k, (column, (group, pages)) in enumerate(zip(st.columns(3, gap="large"), PATH.items(), strict=True)):
        with column.container(key=f"group-{k}"):
            st.markdown(f"### {group}")
            for name in pages:
                number += 1
                words = PAGES[name]
                with st.container(key=f"step-{name}", horizontal=True, vertical_alignment="center", gap="small"):
                    page.picture(
                        st,
                        (THUMBNAILS / f"{name}.png").read_bytes(),
                        labels.Start.thumbnail.format(name=words.name),
                        width=112,
                    )
                    with st.container(gap=None):
                        st.page_link(f"pages_/{name}.py", label=f"**{number}** **{words.name}**")
                        st.caption(words.short)
programs.show(programs.sampling(settings), "mosaic(pixels(x_0), 5)", partial(states, settings))
