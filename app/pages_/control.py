"""Control: a picture of lines or areas steers what a small model draws, beside the same run without it."""

import streamlit as st
from explorer import address, controls, labels, page, sharing, tries
from explorer.page_words import CONTROL

PANELS = ("regions", "picture", "style")  # kinds with a panel of their own
KINDS = labels.Control.kinds

address.films("frame")
with page.top(CONTROL):
    kind = controls.segments(
        st,
        labels.Control.steer,
        list(KINDS),
        "scribble",
        key="control_kind",
        format_func=KINDS.get,
        label_visibility="collapsed",
    )

with st.spinner(labels.LOADING):  # importing torch takes seconds; the visitor already has something to read
    from explorer import control_kinds, control_parts, control_runs, programs, stable, stable_sections

if kind in PANELS:
    if kind == "style":
        from explorer import style_panel as panel
    elif kind == "picture":
        from explorer import picture_panel as panel
    else:
        from explorer import region_panel as panel
    panel.show()
    tries.next_page("control")
    page.end()

row, usual = control_kinds.OF_KINDS[kind], stable.usual(stable.MICRO)
prompt = controls.text(st, labels.PROMPT, row.prompt, key=f"{kind}_prompt", help=labels.Control.known)
with st.container(key="result-first"):
    drawing, result = st.columns([1, 2.2], gap="large")
with drawing:
    given = row.ask()
    control_kinds.read(given)
with st.container(key="settings"):
    first, second, third, fourth, fifth = st.columns(5, gap="medium")
    scale = controls.slider(
        first, labels.Control.scale, 0.0, 1.0, 1.0, 0.05, key="control_scale",
        help=labels.Control.scale_help,
    )  # fmt: skip
    span = controls.span(second, labels.Control.span, 0, 100, (0, 100), key="control_span")
    steps = controls.steps(
        third, labels.STEPS, sharing.up_to(control_kinds.STEPS, sharing.STEPS), 15, key="control_steps"
    )
    seed = controls.number(fourth, labels.SEED, 0, 99_999, 0, key="control_seed")
    guidance = controls.slider(
        fifth, labels.SCALE, 0.0, 12.0, usual.guidance_scale, 0.5, key="control_w", help=labels.OFF
    )
    sharing.say(labels.MOST_STEPS.format(steps=sharing.STEPS))
ask = control_runs.Ask(prompt, scale, steps, guidance, seed, (span[0] / 100, span[1] / 100))
with result:
    stable_sections.empty_prompt(prompt)
    control_parts.show_both(
        lambda tell: control_runs.draw(stable.MICRO, ask, given, tell), "control", seed,
        lambda drawn: row.measured(given, drawn.controlled, drawn.plain) or labels.Control.same_noise,
    )  # fmt: skip

asking, trying = st.columns(2, gap="large")
with trying:
    tries.tries("control")
with asking:
    tries.question("control")
page.below(CONTROL)
programs.show(control_runs.program(stable.MICRO, ask, given))
tries.next_page("control")
