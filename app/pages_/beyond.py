"""Beyond images: clips, sounds, shapes, molecules and text, drawn from noise by the sampler that draws digits."""

import streamlit as st
from explorer import address, controls, labels, page, tries
from explorer.page_words import BEYOND

KINDS = {"video": "Video", "sound": "Sound", "shapes": "Shapes", "molecules": "Molecules", "text": "Text"}

address.films("frame", "turn", "tilt")
with page.top(BEYOND):
    kind = controls.segments(
        st,
        labels.Beyond.kind,
        list(KINDS),
        "video",
        key="data_kind",
        format_func=KINDS.get,
        label_visibility="collapsed",
    )
seen, beside, controlling = page.bench()

with st.spinner(labels.LOADING):  # importing torch takes seconds; the visitor already has something to read
    import torch
    from explorer import beyond_kinds, programs
    from explorer.scrubber import scrubber
    from explorer.words import literal

row = beyond_kinds.OF_KINDS[kind]
with beside:
    task = controls.pills(
        st,
        labels.Beyond.film,
        list(row.tasks),
        "draw",
        key=f"{kind}_task",
        format_func=beyond_kinds.TASKS.get,
        label_visibility="collapsed",
    )
    st.markdown(row.lead)
    tries.tries("beyond")
with controlling:
    ask = row.settings(kind, task)
shown = None
with seen:
    if not page.may_begin(ask.seconds, ask):
        page.end()
    try:
        with page.progress(labels.Beyond.adding if task == "noise" else labels.DRAWING) as tell:
            shown = beyond_kinds.show(ask, tell)
    except ValueError as error:  # a text that the network cannot read
        st.error(literal(str(error)), icon=":material/spellcheck:")
    if shown is not None:
        first_visit = not st.session_state.get("beyond_played")
        st.session_state.beyond_played = True
        middle = len(shown.result.film.captions) // 2
        scrubber(
            shown.result.film,
            key="beyond",
            frame=middle if task == "noise" else None,
            autoplay=first_visit and task != "noise",
        )
        words, save = st.columns([3, 1], vertical_alignment="center")
        words.caption(shown.caption)
        save.download_button(
            labels.Beyond.save.format(kind=shown.suffix[1:].upper()),
            shown.file,
            file_name=f"{kind}{shown.suffix}",
            icon=":material/download:",
            on_click="ignore",
            width="stretch",
        )
numbers, predicting = st.columns(2, gap="large")
with numbers:
    st.header(labels.Beyond.measured, anchor=False)
    st.markdown(beyond_kinds.measured(kind))
with predicting:
    tries.question("beyond")
page.below(BEYOND)
if shown is not None:
    programs.show(shown.program, numbers=lambda: {"x_t": torch.cat(shown.result.states)})
tries.next_page("beyond")
