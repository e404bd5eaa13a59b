"""Forward: how an image becomes noise, and what a network predicts at each time."""

import streamlit as st
from explorer import address, choices, controls, labels, lost, names, own_schedule, page, programs, tries
from explorer.page_words import FORWARD
from explorer.pictures import origin, per_class, picture, pictures, real_images
from explorer.runs import PATHS, class_names, noising
from explorer.scrubber import scrubber
from explorer.setting_types import Whole
from explorer.uploads import digest, own_image

from diffusion_explained.film import evenly_spaced

CLEAR = {"mnist": 7, "cifar10": 16}  # which three, and which horse: ones that are easy to recognise
LEVELS = 50  # of the film, without the clean one

address.films("frame")
with page.top(FORWARD):
    choice = choices.choose()
seen, beside, settings = page.bench()
classes, (channels, size, _) = class_names(choice.data), pictures(choice.data).image_shape
colours = "grey" if channels == 1 else "coloured"
with settings:
    first, second, third, fourth, fifth = st.columns([2.1, 1.1, 1.4, 0.8, 0.8], gap="medium")
    if choice.data == "mnist":
        label = controls.pills(first, labels.Forward.digit, range(10), 3, key="digit")
    else:
        label = classes.index(controls.pills(first, labels.CLASS, classes, "horse", key="picture"))
    schedule = controls.choice(
        second, labels.SCHEDULE, (*PATHS, names.YOURS), "cosine", key="schedule", format_func=names.WITH_YOURS.get
    )
    handles = own_schedule.values() if schedule == names.YOURS else ()
    if handles:
        with second:
            st.page_link("pages_/schedules.py", label=labels.DRAG_YOURS, icon=":material/show_chart:")
    with third:
        choices.pick_network(choice, labels.Forward.network)
    most = per_class(choice.data) - 1
    usual = choice.default("number", min(CLEAR[choice.data], most))
    number = controls.number(fourth, labels.Forward.which.format(noun=choice.noun), 0, most, usual, key="number")
    seed = controls.number(fifth, labels.SEED_OF_NOISE, 0, 9999, 0, key="seed")
    with st.expander(labels.YOUR_IMAGE, icon=":material/upload:"):
        upload = controls.upload(
            labels.YOUR_IMAGE,
            key="upload",
            help=labels.Forward.formats.format(size=size, colours=colours),
        )
        invert = controls.switch(st, labels.Forward.invert, key="invert") if upload else False

x_0, known = picture(choice.data, label, number), label
key = (choice.data, pictures(choice.data).split, label, number)
if upload is not None:
    said: tuple[str, ...] = ()
    try:
        file = upload.getvalue()
        x_0, said = own_image(file, size, channels, invert=invert)
        key, known = ("upload", digest(file), invert), None
        address.leaves_out(labels.Forward.left_out)
    except ValueError as error:
        seen.error(
            page.literal(labels.Forward.refused.format(error=error, class_name=classes[label])),
            icon=":material/broken_image:",
        )
    for sentence in said:
        settings.caption(sentence)


def guess(frame: int) -> None:
    st.session_state.lost = frame


guessed = address.hidden("lost", Whole(0, LEVELS), None)
with seen:
    with page.progress(labels.Forward.asking) as tell:
        kept = noising(key, x_0, known, schedule, handles, choice.model, seed, tell)
    if guessed is not None:
        kept = lost.with_chart(kept, choice.data, guessed)
    scrubber(
        kept.film,
        key="noising",
        frame=LEVELS // 2,
        keep=True,
        ask=labels.Forward.lose_it,
        on_answer=guess,
    )
    page.colour_notice(choice.data)
    if known is not None:
        origin(choice.data)
with beside:
    st.header(labels.Forward.predict, anchor=False)
    if guessed is None:
        st.markdown(labels.Forward.question.format(noun=choice.noun))
    else:
        st.markdown(lost.words(kept, choice.data, guessed, choice.noun))
    tries.tries("forward")

st.header(labels.FILMSTRIP, anchor=False)
places = evenly_spaced(len(kept.levels), 11)
captions = ["clean", *(f"{place / LEVELS:.0%}" for place in places[1:])]
page.strip({"xₜ": kept.x_t[places]}, captions, labels.Forward.strip.format(schedule=names.WITH_YOURS[schedule]))
page.below(FORWARD)

data = choice.data if choice.data == "mnist" or real_images(choice.data) else "made"
programs.show(
    programs.noising(
        data,
        label,
        number,
        schedule,
        handles,
        choice.model,
        seed,
        own=(channels, size) if known is None else None,
        invert=invert,
    ),
    "mosaic(pixels(x_t[::5]), 11)",
    lambda: {"x_t": kept.x_t},
)
tries.next_page("forward")
