"""Text to image: a model draws what the visitor types, and shows its whole way from words. Micro draws it at once."""

import html
import math
from dataclasses import replace

import streamlit as st
from explorer import (
    address,
    controls,
    drawings,
    labels,
    larger_models,
    page,
    part_labels,
    pipeline_stage,
    programs,
    sharing,
    spacings,
    stable,
    stable_sections,
    tries,
    variations,
    vocabulary,
)
from explorer.from_words import STABLE_DIFFUSION, TEXT_TO_IMAGE
from explorer.names import SAMPLERS as SAMPLER_NAMES
from explorer.setting_types import Whole
from explorer.start_pictures import EMOJI, FILE, IMAGE, PAPER, PICKED, resamplings, start_picture
from torch import Tensor

from diffusion_explained.film import pixels, png
from diffusion_explained.stable_diffusion.pipeline_films import distances

EXAMPLES = (stable_sections.FIRST_PROMPT, "a blue butterfly", "a rocket", "crying cat", "house with garden",
            "a purple octopus", "sunflower", "a green car on a yellow background", "a rocket above a pear")  # fmt: skip
OTHER_PROMPT = "a purple apple"
STEPS, USUAL_STEPS = (1, 2, 4, 8, 12, 20, 30, 50), 12
PREVIEW = 8
SCALE = 2.0  # at which the pictures are nearest to real emoji (docs/results.md, Micro Stable Diffusion)
PICTURES = 4  # the default number
MOST_SEED = 99_996

address.films(*pipeline_stage.FILMS, "walk_frame")
state = st.session_state
kind = stable_sections.chosen_model(stable.MICRO)
with page.top(TEXT_TO_IMAGE if kind == stable.MICRO else STABLE_DIFFUSION):
    stable_sections.list_models(part_labels.StableSections.model, label_visibility="collapsed", width=300)
sharing.say(sharing.ONLY_SHIPPED)
if kind != stable.MICRO:
    larger_models.show(kind)
    tries.next_page("text_to_image")
    page.end()
name = stable.embedded()
usual = stable.usual(name)
side = stable.usual(stable.MICRO).size[0]  # the stand-in uses the same
picked = state.get("t2i_picked")
stable_sections.bring_settings(
    (kind, ""), EXAMPLES[0], t2i_steps=USUAL_STEPS, t2i_w=SCALE, t2i_sampler=usual.sampler, t2i_count=PICTURES
)


def take_example() -> None:
    state.t2i_prompt, state.t2i_example = state.t2i_example, None


def take_word(unknown: str, known: str) -> None:
    """Replace an unknown word of the prompt, as the tokenizer reads it, in lower case."""
    state.t2i_prompt = state.t2i_prompt.lower().replace(unknown, known)


def other_seeds() -> None:
    state.t2i_seed = (state.t2i_seed + state.t2i_count) % MOST_SEED


def choose(seed: int) -> None:
    state.t2i_chosen = seed


def refine(picture: Tensor) -> None:
    state.update(t2i_picked=picture, start=IMAGE, source=PICKED, strength=0.5)


@page.fragment
def known_words() -> None:
    query = controls.text(
        st, labels.TextToImage.search, key="t2i_search", placeholder="cat", label_visibility="collapsed"
    )
    found = vocabulary.matching(query)
    kinds = {**({} if query.strip() else vocabulary.OTHER), **found}
    rows = "".join(
        f"<dt>{html.escape(kind)}</dt><dd>{''.join(f'<span>{html.escape(word)}</span>' for word in words)}</dd>"
        for kind, words in kinds.items()
    )
    st.html(f'<dl class="words">{rows}</dl>')
    count, all_of_them = sum(map(len, found.values())), len(vocabulary.names())
    st.caption(
        labels.TextToImage.found.format(count=count, all_of_them=all_of_them)
        if query.strip()
        else labels.TextToImage.all_things.format(all_of_them=all_of_them)
    )


# -- the request -------------------------------------------------------------------------------------------

words, second = st.columns(2, gap="medium")
quiet = {"label_visibility": "collapsed"}  # what each of these is, is seen from its place
prompt = controls.text(words, labels.PROMPT, EXAMPLES[0], key="t2i_prompt", **quiet)
words.pills(labels.TextToImage.examples, EXAMPLES, key="t2i_example", on_change=take_example, **quiet)
unknown = words.container(key="unknown")
beside = controls.segments(
    second,
    labels.TextToImage.beside,
    list(labels.TextToImage.sides),
    "nothing",
    key="t2i_beside",
    format_func=labels.TextToImage.sides.get,
    **quiet,
)
if beside == "prompt":
    other_prompt = controls.text(second, labels.TextToImage.other_prompt, OTHER_PROMPT, key="t2i_other_prompt", **quiet)
elif beside == "seed":
    other_seed = controls.number(second, labels.TextToImage.other_seed, 0, MOST_SEED, 7, key="t2i_other_seed", **quiet)
elif beside == "scale":
    other_scale = controls.slider(
        second, labels.TextToImage.other_scale, 0.0, 12.0, 8.0, 0.5, key="t2i_other_w", **quiet
    )
with st.container(key="machine"):
    machine = st.container()
with st.container(key="workbench"):  # on a phone the result stands above its controls
    asking, result = st.columns([1, 2.4], gap="large")
with asking:
    st.header(labels.TextToImage.settings, anchor=False)
    negative = controls.text(st, labels.NEGATIVE_PROMPT, key="t2i_negative", help=labels.TextToImage.negative_help)
    scale = controls.slider(
        st, labels.SCALE, 0.0, 12.0, SCALE, 0.5, key="t2i_w",
        help=labels.TextToImage.scale_help,
    )  # fmt: skip
    steps = controls.steps(
        st,
        labels.STEPS,
        sharing.up_to(STEPS, sharing.STEPS),
        USUAL_STEPS,
        key="t2i_steps",
        help=labels.TextToImage.preview.format(preview=PREVIEW),
    )
    left, right = st.columns(2)
    seed = controls.number(left, labels.TextToImage.first_seed, 0, MOST_SEED, 0, key="t2i_seed")
    count = controls.number(right, labels.PICTURES, 1, sharing.most(4, sharing.PICTURES), PICTURES, key="t2i_count")
    sharing.say(labels.TextToImage.bounds.format(steps=sharing.STEPS, pictures=sharing.PICTURES))
    st.button(
        labels.TextToImage.other_seeds, icon=":material/casino:", key="t2i_other", on_click=other_seeds, width="stretch"
    )
    sampler = controls.choice(
        st, labels.SAMPLER, list(SAMPLER_NAMES), usual.sampler, key="t2i_sampler", format_func=SAMPLER_NAMES.get
    )
    spacing = spacings.choose(st, spacings.of_stable_diffusion(name, steps, sampler), key="t2i_spacing")
    start = start_picture(side, side, (EMOJI, PAPER, FILE), picked)
    repeats = resamplings(start, sampler)
    chosen = address.hidden("t2i_chosen", Whole(seed, seed + count - 1), seed)

# -- the pictures -------------------------------------------------------------------------------------------

seeds = tuple(range(seed, seed + count))
ask = stable.Ask(prompt, negative, scale, sampler, spacing, steps, seeds, side, side, resamplings=repeats)
other = {
    "nothing": lambda: None,
    "prompt": lambda: replace(ask, prompt=other_prompt, seeds=(chosen,)),
    "seed": lambda: replace(ask, seeds=(other_seed,)),
    "scale": lambda: replace(ask, guidance_scale=other_scale, seeds=(chosen,)),
}[beside]()
place = ask.seeds.index(chosen)
with machine:
    asked = stable.asked(name, ask, start)
    if not stable.begins_by_itself(name, ask, PICTURES) and not page.may_begin(math.inf, asked):
        page.end()
    asks = [ask, other] if other else [ask]
    busy = st.container(key="busy")  # lies over the picture: nothing below it moves, not even under a visitor's brush
    try:
        with busy, page.progress(labels.DRAWING) as tell:
            drawn = [drawings.draw(name, one, start, tell) for one in asks]
    except (ValueError, OSError) as error:
        st.error(page.literal(str(error)), icon=":material/error:")
        page.end()
    drawing = drawn[0]
    with busy, page.progress(labels.TextToImage.inside) as tell:
        shown = [
            drawings.whole(name, one, image, of, tell) for one, image, of in zip(drawn, (place, 0), asks, strict=False)
        ]
    apart = distances(drawing.steps, drawn[1].steps, place) if other else ()
    pipeline_stage.pipeline(shown, apart, key="t2i_pipeline")
    facts = " · ".join(f"**{letter}** {page.literal(run.name)}" for letter, run in zip("AB", shown, strict=False))
    st.caption(facts if other else page.literal(shown[0].name))
    stable_sections.kind(drawing.label, drawing.model)
with unknown:
    stable_sections.empty_prompt(prompt)
    stable_sections.cut_off(drawing.tokens)
    for word, pieces in drawings.unknown_words(drawing.tokens).items():
        st.info(
            labels.TextToImage.unknown.format(word=page.literal(word), pieces=page.literal(pieces)),
            icon=":material/translate:",
        )
        if offered := vocabulary.nearest(word):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(labels.TextToImage.it_knows, width="content")
                for known in offered:
                    st.button(known, key=f"known {word} {known}", on_click=take_word, args=(word, known))


def show_seeds() -> None:
    """The run's pictures, one per seed: what each is read as, and what can be done with the picked one."""
    with page.progress(labels.TextToImage.reading) as tell:
        readings = drawings.readings(drawing, tell)
    with st.container(key="grid"):
        for k, column in zip(range(count), st.columns(max(2, count)), strict=False):
            number, picture = ask.seeds[k], drawing.pictures[k : k + 1]
            of_prompt = prompt or labels.TextToImage.no_words
            page.picture(
                column,
                png(pixels(picture)[0]),
                labels.TextToImage.picture.format(of_prompt=of_prompt, number=number, label=drawing.label),
            )
            said = labels.TextToImage.seed.format(number=number)
            if readings:
                said += labels.TextToImage.reads.format(thing=page.literal(readings[k][0]), confidence=readings[k][1])
            column.caption(said)
            is_chosen = number == chosen
            column.button(
                labels.TextToImage.picked if is_chosen else labels.TextToImage.pick, key=f"pick{k}", on_click=choose,
                args=(number,), type="primary" if is_chosen else "secondary", width="stretch",
            )  # fmt: skip
    pick = drawing.pictures[place : place + 1]
    again, save = st.columns(2)
    again.button(
        labels.TextToImage.refine.format(chosen=chosen), icon=":material/brush:", on_click=refine, args=(pick,),
        width="stretch", help=labels.TextToImage.refine_help,
    )  # fmt: skip
    save.download_button(
        labels.TextToImage.save.format(chosen=chosen), png(pixels(pick)[0]), f"seed-{chosen}.png", "image/png",
        icon=":material/save:", on_click="ignore", width="stretch",
    )  # fmt: skip


walk = None
with result:
    view = controls.segments(
        st, labels.TextToImage.below, list(variations.VIEWS), "seeds", key="t2i_view",
        format_func=variations.VIEWS.get, **quiet,
    )  # fmt: skip
    if view == "walk":
        walk = variations.choose(OTHER_PROMPT, MOST_SEED)
        if start.image is not None:
            st.caption(labels.TextToImage.walk)
    if view == "seeds":
        show_seeds()
    else:
        more = replace(ask, seeds=tuple(range(variations.pictures_of(view, ask, walk))))
        if stable.begins_by_itself(name, more, PICTURES) or page.may_begin(math.inf, (asked, view, walk)):
            if walk is not None:
                variations.show_walk(name, replace(ask, seeds=(chosen,)), walk)
            else:
                with page.progress(labels.TextToImage.grid) as tell:
                    variations.show_grid(name, ask, start, tell)
    with st.expander(labels.TextToImage.known_words, icon=":material/menu_book:"):
        known_words()
    stable_sections.absent()
    trying, predicting = st.columns(2, gap="large")
    with trying:
        tries.tries("text_to_image")
    with predicting:
        tries.question("text_to_image")

page.below(TEXT_TO_IMAGE)
program = programs.two_runs(name, ask, start, other, place) if other else programs.diffusion(name, ask, start)
programs.show(program + variations.program(view, replace(ask, seeds=(chosen,)) if walk else ask, start, walk))
tries.next_page("text_to_image")
