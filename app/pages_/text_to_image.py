"""Text to image: a latent diffusion model draws what the visitor types, at once, in this process; then refine it."""

import html
import math

import streamlit as st
from explorer import (
    address,
    controls,
    drawings,
    page,
    programs,
    sharing,
    spacings,
    stable,
    stable_sections,
    tries,
    vocabulary,
)
from explorer.names import SAMPLERS as SAMPLER_NAMES
from explorer.page_words import TEXT_TO_IMAGE
from explorer.scrubber import scrubber
from explorer.setting_types import Whole
from explorer.start_pictures import EMOJI, FILE, IMAGE, PAPER, PICKED, start_picture
from torch import Tensor

from diffusion_explained.film import pixels, png

EXAMPLES = ("a blue cat", "red heart", "crying cat", "a rocket", "house with garden", "a purple apple", "sunflower",
            "a green car on a yellow background", "a rocket above a pear")  # fmt: skip
STEPS = (1, 2, 4, 8, 12, 20, 30, 50)
PREVIEW = 8
PICTURES = 4  # the default number
MOST_SEED = 99_996

page.head(
    "Text to image: type it, and watch it drawn",
    "A small complete system, trained by this project and shipped with it: a text encoder, a network that removes "
    "noise from a latent of 16 × 16 × 4 numbers conditioned on the text, and a decoder. It knows **emoji**, in "
    "English.",
    r"\hat\varepsilon = \varepsilon_{\text{negative}} + w\,(\varepsilon_{\text{prompt}}-\varepsilon_{\text{negative}})",
    r"\text{attention} = \operatorname{softmax}\!\big(q\,k^{\top}/\sqrt d\big)",
)
address.films("frame", "words_frame")
state = st.session_state
name = stable.embedded()
usual = stable.usual(name)
side = stable.usual(stable.MICRO).size[0]  # the stand-in uses the same
picked = state.get("t2i_picked")


def take_example() -> None:
    state.t2i_prompt, state.t2i_example = state.t2i_example, None


def other_seeds() -> None:
    state.t2i_seed = (state.t2i_seed + state.t2i_count) % MOST_SEED


def choose(seed: int) -> None:
    state.t2i_chosen = seed


def refine(picture: Tensor) -> None:
    state.update(t2i_picked=picture, start=IMAGE, source=PICKED, strength=0.5)


@page.fragment
def known_words() -> None:
    query = controls.text(st, "Search", key="t2i_search", placeholder="cat", label_visibility="collapsed")
    found = vocabulary.matching(query)
    kinds = {**({} if query.strip() else vocabulary.OTHER), **found}
    rows = "".join(
        f"<dt>{html.escape(kind)}</dt><dd>{''.join(f'<span>{html.escape(word)}</span>' for word in words)}</dd>"
        for kind, words in kinds.items()
    )
    st.html(f'<dl class="words">{rows}</dl>')
    count, all_of_them = sum(map(len, found.values())), len(vocabulary.names())
    st.caption(
        f"{count} of {all_of_them} things match."
        if query.strip()
        else f"{all_of_them} things, and the words that describe them."
    )


# -- the request -------------------------------------------------------------------------------------------

words, away = st.columns([1.6, 1], gap="medium")
prompt = controls.text(words, "Prompt", EXAMPLES[0], key="t2i_prompt")
negative = controls.text(
    away, "Negative prompt", key="t2i_negative", help="What guidance moves away from; may be empty."
)
st.pills("Examples", EXAMPLES, key="t2i_example", on_change=take_example, label_visibility="collapsed")
with st.expander("The words it knows", icon=":material/menu_book:"):
    known_words()
with st.container(key="workbench"):  # on a phone the result stands above its controls
    asking, result = st.columns([1, 2.4], gap="large")
with asking:
    start = start_picture(side, side, (EMOJI, PAPER, FILE), picked)
    scale = controls.slider(
        st, "Guidance scale w", 0.0, 12.0, usual.guidance_scale, 0.5, key="t2i_w",
        help="1 is off. A larger scale follows the prompt more closely, until it over-sharpens.",
    )  # fmt: skip
    steps = controls.steps(
        st,
        "Steps",
        sharing.up_to(STEPS, sharing.STEPS),
        usual.num_inference_steps,
        key="t2i_steps",
        help=f"{PREVIEW} are a quick preview.",
    )
    left, right = st.columns(2)
    seed = controls.number(left, "First seed", 0, MOST_SEED, 0, key="t2i_seed")
    count = controls.number(right, "Pictures", 1, sharing.most(4, sharing.PICTURES), PICTURES, key="t2i_count")
    sharing.say(f"a run has at most {sharing.STEPS} steps and {sharing.PICTURES} pictures (seeds)")
    st.button("Other seeds", icon=":material/casino:", key="t2i_other", on_click=other_seeds, width="stretch")
    sampler = controls.choice(
        st, "Sampler", list(SAMPLER_NAMES), usual.sampler, key="t2i_sampler", format_func=SAMPLER_NAMES.get
    )
    spacing = spacings.choose(st, spacings.of_stable_diffusion(name, steps, sampler), key="t2i_spacing")
    tries.tries("text_to_image")
    tries.question("text_to_image")
    chosen = address.hidden("t2i_chosen", Whole(seed, seed + count - 1), seed)

# -- the pictures -------------------------------------------------------------------------------------------

ask = stable.Ask(prompt, negative, scale, sampler, spacing, steps, tuple(range(seed, seed + count)), side, side)
with result:
    drawing = None
    asked = stable.asked(name, ask, start)
    if not stable.begins_by_itself(name, ask, PICTURES) and not page.may_begin(math.inf, asked):
        page.end()
    with page.progress("Drawing") as tell:
        try:
            drawing = drawings.draw(name, ask, start, tell)
        except (ValueError, OSError) as error:
            st.error(page.literal(str(error)), icon=":material/error:")
    if drawing is None:
        page.end()

    stable_sections.kind(drawing.label, drawing.model)
    stable_sections.empty_prompt(prompt)
    if unknown := drawings.unknown_words(drawing.tokens):
        read = ", ".join(f"**{page.literal(word)}** as {page.literal(pieces)}" for word, pieces in unknown.items())
        st.info(
            f"The model does not know these words. It reads them in pieces, which change the picture little: {read}.",
            icon=":material/translate:",
        )
    with page.progress("Reading the pictures") as tell:
        readings = drawings.readings(drawing, prompt, tell)
    with st.container(key="grid"):
        for k, column in zip(range(count), st.columns(max(2, count)), strict=False):
            number, picture = ask.seeds[k], drawing.pictures[k : k + 1]
            of_prompt = prompt or "no words"
            page.picture(column, png(pixels(picture)[0]), f"{of_prompt}, seed {number}, {drawing.label}")
            reading = f" · reads as: {page.literal(readings[k][0])} {readings[k][1]:.2f}" if readings else ""
            column.caption(f"seed {number}{reading}")
            is_chosen = number == chosen
            column.button(
                "Picked" if is_chosen else "Pick this one", key=f"pick{k}", on_click=choose, args=(number,),
                type="primary" if is_chosen else "secondary", width="stretch",
            )  # fmt: skip
    place = ask.seeds.index(chosen)
    picture = drawing.pictures[place : place + 1]
    again, save = st.columns(2)
    again.button(
        f"Refine seed {chosen}", icon=":material/brush:", on_click=refine, args=(picture,), width="stretch",
        help="Start from this picture: paint on it, brush a hole, or draw variants of it.",
    )  # fmt: skip
    save.download_button(
        f"Save seed {chosen} as PNG", png(pixels(picture)[0]), f"seed-{chosen}.png", "image/png",
        icon=":material/save:", on_click="ignore", width="stretch",
    )  # fmt: skip

    st.subheader("The words as the model reads them", anchor=False)
    stable_sections.tokens(drawing.tokens, drawing.text_shape)

# -- inside ------------------------------------------------------------------------------------------------

with page.progress("Looking inside") as tell:
    of_steps, of_words = drawings.films(name, drawing, place, tell)
st.subheader(f"Every step of seed {chosen}", anchor=False)
scrubber(of_steps, key="t2i_steps_film")
st.subheader(f"Where the words land in seed {chosen}", anchor=False)
if of_words is None:
    st.caption("The prompt has no words, so there is no attention to show.")
else:
    scrubber(of_words, key="t2i_words_film", name="words_frame")
    st.caption(
        "Orange is attention: how much each place attends to a word, averaged over the network's layers, from zero to "
        "the word's maximum. Beside it is the word's share of all attention; the rest goes to the tokens at the "
        "start, at the end and in the padding."
    )

programs.show(programs.diffusion(name, ask, start))
page.notes(TEXT_TO_IMAGE)
tries.next_page("text_to_image")
