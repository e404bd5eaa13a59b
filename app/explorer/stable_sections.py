"""The parts of pages with Stable Diffusion: the choice of a model, how to get a missing one, and a run's stages."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import streamlit as st

from diffusion_explained.film import EPS_RANGE, mosaic, pixels, png
from diffusion_explained.stable_diffusion import Trace
from diffusion_explained.stable_diffusion.families import MICRO_TITLE
from diffusion_explained.stable_diffusion.on_disk import MODEL
from explorer import additions, address, controls, fitting, loading, on_disk, page, part_labels, sharing, stable
from explorer.additions import Additions
from explorer.jobs import Job, begin, running, watch
from explorer.loading import USUAL, Loading
from explorer.setting_types import OneOf
from explorer.stable import AT_ONCE, LABELS, MODELS, OF_MICRO, OTHER, RECORDED, FinishedRun
from explorer.turns import Tell

T = TypeVar("T")
CHANNELS_PER_ROW = 4
PREVIEW = 160  # pixels
FIRST_PROMPT = "a red apple"  # of micro, on the page Text to image


# -- a model ------------------------------------------------------------------------------------------------


def chosen_model(usual: str) -> str:
    """The visitor's choice, which other pages keep: a name on the hub, MICRO, STAND_IN, RECORDED or OTHER."""
    offered, state = stable.offered(), st.session_state
    given = address.read("sd_model", OneOf(offered), None)
    if given is not None:
        state.sd_chosen = given
    chosen = state.get("sd_chosen", usual)
    if chosen not in offered:  # a client can send any value back
        chosen = usual
    state.sd_model = chosen
    address.put("sd_model", [chosen])  # always: pages differ in their default, and machines too
    return chosen


def list_models(words: str, **look: Any) -> None:
    """The list in which the visitor chooses a model, after `chosen_model`."""
    st.selectbox(words, stable.offered(), format_func=MODELS.get, key="sd_model", on_change=_other_model, **look)


def _other_model() -> None:
    st.session_state.sd_chosen = st.session_state.sd_model


def pick_model(words: str) -> tuple[str, Loading]:
    """The list of models, and how the chosen one is loaded: what `chosen_model` and `loaded_as` return."""
    kind = chosen_model(stable.first_choice())
    list_models(words)
    sharing.say(sharing.ONLY_SHIPPED)
    return loaded_as(kind)


def loaded_as(kind: str) -> tuple[str, Loading]:
    """The name of the chosen model, and how it is loaded, both asked for if they are the visitor's.

    The name is one on the hub, a folder, a file, MICRO, STAND_IN, RECORDED, or OTHER until the visitor has given one.
    """
    name = _named() if kind == OTHER else kind
    if name == RECORDED:
        return name, USUAL
    its_own = name in (*AT_ONCE, OTHER) or sharing.is_shared()
    how = USUAL if its_own else loading.pick(name, _safety_checker(name))
    own = stable.usual(name, how)
    height, width = own.size or stable.SLOW
    bring_settings(
        (name, how.prediction), own.prompt,
        width=width, height=height, t2i_steps=own.num_inference_steps, t2i_w=own.guidance_scale,
        t2i_sampler=own.sampler, t2i_count=1,
    )  # fmt: skip
    return name, how


def _named() -> str:
    """The model that the visitor names, a repository or a folder; OTHER for none."""
    name = controls.text(
        st,
        part_labels.StableSections.name,
        st.session_state.get("sd_other", ""),
        key="sd_name",
        most=on_disk.NAME,
        always=True,
        help=part_labels.StableSections.name_help,
    ).strip()
    st.session_state.sd_other = name
    if name and not on_disk.holds_several(name):
        return name
    words = "In this folder" if name else "In the hub's cache"
    return on_disk.pick(name, MODEL, words, "sd_found") or name or OTHER


def pick_additions(name: str, how: Loading) -> Additions:
    """What the visitor adds to a model of theirs for a run."""
    if name in (*AT_ONCE, OTHER):
        return additions.NONE
    return additions.pick(refines=stable.is_xl(name, how))


def _safety_checker(name: str) -> bool | None:
    """False if the visitor leaves the model's safety checker out, otherwise None."""
    if not stable.may_ship_checker(name):
        return None
    checked = st.session_state.sd_checked = controls.switch(
        st,
        part_labels.StableSections.checker,
        st.session_state.get("sd_checked", True),
        key="sd_checker",
        always=True,
        help=part_labels.StableSections.checker_help,
    )
    if checked:
        return None
    st.caption(part_labels.StableSections.unchecked)
    return False


def bring_settings(model: tuple[str, str], prompt: str, **settings: object) -> None:
    """Set the controls to a model's own settings when the visitor chose or named another model than before."""
    state = st.session_state
    if state.setdefault("sd_settings_of", model) == model:
        return
    state.sd_settings_of = model
    state.update(settings)
    for key in ("t2i_prompt", "compare_prompt"):
        if state.get(key) in {FIRST_PROMPT, *(stable.usual(name).prompt for name in MODELS)}:
            state[key] = prompt  # one that the visitor typed stays


def upload_trace() -> FinishedRun | None:
    """A recorded run from a visitor's file, or None; a file that cannot be used is reported."""
    megabytes = sharing.upload_mb()
    file = controls.upload(
        part_labels.StableSections.recorded,
        key="sd_trace",
        help=part_labels.StableSections.recorded_help.format(megabytes=megabytes),
    )
    if file is None:
        st.caption(part_labels.StableSections.save_first)
        return None
    address.leaves_out("the recorded run")
    try:
        return stable.opened(file.getvalue(), file.name)
    except OSError as error:
        st.error(page.literal(part_labels.StableSections.refused.format(error=error)), icon=":material/broken_image:")
        return None


def can_run(name: str, ask: stable.Ask) -> bool:
    """Whether a model can run now; if not, say what is missing and offer what helps."""
    if name == OTHER:
        st.info(part_labels.StableSections.give_name, icon=":material/touch_app:")
        return False
    if name not in AT_ONCE and sharing.is_shared():
        st.warning(sharing.sentence(sharing.ONLY_SHIPPED), icon=":material/groups:")
        return False
    safety_checker = ask.loading.safety_checker
    if why := stable.missing(name, ask.loading):
        st.warning(page.literal(why), icon=":material/inventory_2:")
        gigabytes = stable.to_download(name, safety_checker)
        if gigabytes:
            fetch = partial(stable.download, name, gigabytes, safety_checker=safety_checker)
            st.button(
                part_labels.StableSections.download.format(gigabytes=gigabytes),
                icon=":material/download:",
                disabled=running(),
                on_click=lambda: begin(Job("Download", "sd_fetched", fetch, stoppable=False)),
                help=part_labels.StableSections.download_help,
            )
        return False
    if why := ask.loading.refused or (ask.more.refiner and stable.refused_refiner(ask.more.refiner)):
        st.warning(page.literal(why), icon=":material/block:")
        return False
    if name in AT_ONCE or stable.loaded(name, ask.loading) is not None:
        return True
    of_run = ask.height, ask.width, len(ask.seeds), ask.guidance_scale
    models = {name: ask.loading, **({ask.more.refiner: ask.loading.of_refiner} if ask.more.refiner else {})}
    for one, how in models.items():
        said, fits = fitting.words(one, how, *of_run)
        said = f"Refiner. {said}" if said and one != name else said
        if not fits:
            st.warning(page.literal(said), icon=":material/memory:")
        elif said:
            st.caption(page.literal(said))
    if stable.on_cpu():
        st.warning(
            part_labels.StableSections.no_gpu,
            icon=":material/hourglass_top:",
        )
        load = partial(stable.load, stable.models(), name, loading=ask.loading)
        st.button(
            part_labels.StableSections.load,
            icon=":material/timer:",
            disabled=running(),
            on_click=lambda: begin(Job(f"Loading {page.literal(name)}", "sd_loaded", load)),
        )
        return False
    return True


def run(
    words: str,
    name: str,
    ask: stable.Ask,
    work: Callable[[Tell], T],
    kept: str,
    asked: tuple[object, ...],
    *,
    usual_steps: int = 0,
) -> T | None:
    """Show the button that starts the work, its expected time and its progress. Return the latest result, or None.

    The result may come from other settings than `asked`; a caption then says so. The first run of a small model begins
    by itself, unless its settings need much more work than is usual.
    """
    if can_run(name, ask):
        button, forecast = st.columns([1, 3], vertical_alignment="center")
        allowed = not sharing.is_shared() or stable.begins_by_itself(name, ask, sharing.PICTURES, usual_steps)
        # not by on_click: it would have the settings of the page's previous run, without the latest change
        pressed = button.button(
            words, type="primary", icon=":material/play_arrow:", width="stretch", disabled=not allowed
        ) and allowed  # fmt: skip
        forecast.caption(_estimate(name, ask))
        if not allowed:
            bounds = "a run of this much work does not begin: choose fewer steps or pictures, or smaller ones"
            st.info(sharing.sentence(bounds), icon=":material/groups:")
        first = allowed and name in AT_ONCE and f"{kept}_begun" not in st.session_state
        if pressed or (first and stable.begins_by_itself(name, ask, steps=usual_steps)):
            st.session_state[f"{kept}_begun"] = True
            begin(Job(words, kept, work, asked=asked, expected=_seconds(name, ask)))
        elif first:
            st.info(part_labels.StableSections.longer.format(words=words),
                    icon=":material/touch_app:")  # fmt: skip
        if running() and st.session_state.job.asked not in (None, asked):
            st.info(
                part_labels.StableSections.in_progress.format(
                    prompt=_of_prompt(st.session_state.job.asked, ask), words=words
                ),
                icon=":material/sync:",
            )
    watch()
    value = st.session_state.get(kept)
    if value is not None and value.asked != asked and not running():
        st.caption(part_labels.StableSections.other_settings.format(prompt=_of_prompt(value.asked, ask)))
    return value


def _of_prompt(asked: object, ask: stable.Ask) -> str:
    """A clause with the prompt in `asked` (a result of `stable.asked`), if it differs from that of `ask`."""
    before = next((one for one in asked if isinstance(one, stable.Ask)), ask) if isinstance(asked, tuple) else ask
    return "" if before.prompt == ask.prompt else f": its prompt is “{page.literal(before.prompt) or 'empty'}”"


def _seconds(name: str, ask: stable.Ask) -> float | None:
    """About how many seconds a run takes; None before the model was measured."""
    known = stable.loaded(name, ask.loading)
    if known is None:
        return None
    return known.pace.estimate(
        ask.num_inference_steps * (ask.resamplings or 1), len(ask.seeds), ask.height, ask.width, ask.sampler
    )


def _estimate(name: str, ask: stable.Ask) -> str:
    """A sentence about how long a run takes, or that the first run measures it."""
    known, seconds = stable.loaded(name, ask.loading), _seconds(name, ask)
    if known is None or seconds is None:
        return "The first run also loads the model, and measures how long a step takes here."
    return f"Takes about {page.duration(seconds)} on {known.model.device}."


def absent() -> None:
    """On a machine that can run only the small models: say what full Stable Diffusion needs."""
    if sharing.is_shared():
        return
    why = stable.missing(stable.DEFAULT_MODEL)
    if why or stable.on_cpu():
        with st.expander(part_labels.StableSections.absent, icon=":material/help:"):
            gpu = "There is no GPU here; with a GPU, a picture takes about a second. " if stable.on_cpu() else ""
            choose = (
                "Choose it in the list of models: the page says its size, and downloads it when you press a button."
            )
            st.markdown(f"{gpu}{page.literal(why)}\n\n{choose if why else ''}")


# -- a run --------------------------------------------------------------------------------------------------


def label(trace: Trace) -> None:
    """Say whether the run is live, recorded or of a stand-in."""
    kind(trace.label, trace.settings["model"])


def kind(label: str, model: str) -> None:
    """Say the same of a run without a trace, by its model's label and name."""
    mark, meaning = LABELS[label]
    st.markdown(f"{mark} {OF_MICRO if label == 'live' and model == MICRO_TITLE else meaning}.")


def cut_off(of_prompt: Sequence[dict]) -> None:
    """Warn of the end of a prompt that did not fit into a text encoder's tokens."""
    for cut in dict.fromkeys(one["cut"] for one in of_prompt if one["cut"]):
        st.warning(part_labels.StableSections.cut_off.format(cut=page.literal(cut)), icon=":material/content_cut:")


def latents(drawn: FinishedRun) -> None:
    """Show the first picture's initial latent: its channels as signed fields, and in colours."""
    z, size = drawn.latents, drawn.trace.settings
    with st.container(key="latents"):
        if z is None:
            preview = st.container(width=PREVIEW)
        else:
            channels, preview = st.columns([4, 1], gap="small")
            alt = f"The {len(z)} channels of the first latent, as signed fields"
            page.picture(channels, png(mosaic(pixels(z[:, None], EPS_RANGE), CHANNELS_PER_ROW)), alt)
            channels.caption(part_labels.StableSections.channels.format(count=len(z), eps_range=EPS_RANGE))
        alt = "The first latent in colours, by a linear map of its channels"
        page.picture(preview, png(drawn.trace.latents[0, 0]), alt)
        preview.caption(part_labels.StableSections.by_map)
        if z is None:
            st.caption(part_labels.StableSections.no_channels)
    depth, height, width = size["latent_shape"]
    values, of_picture = depth * height * width, 3 * size["height"] * size["width"]
    st.caption(
        part_labels.StableSections.sizes.format(
            height=height,
            width=width,
            depth=depth,
            values=values,
            picture_height=size["height"],
            picture_width=size["width"],
            of_picture=of_picture,
            times=of_picture / values,
        )
    )


def finished(drawn: FinishedRun) -> None:
    """Show the decoded pictures, side by side."""
    said = drawn.trace.settings
    columns = st.columns(max(2, len(said["seeds"])))  # a single picture takes half of the page
    for column, picture, seed in zip(columns, drawn.trace.pictures, said["seeds"], strict=False):
        alt = f"The decoded picture of seed {seed}, {drawn.trace.label}: {said['prompt'][0]}"
        page.picture(column, png(picture), alt, caption=part_labels.StableSections.seed.format(seed=seed))


def notices(drawn: FinishedRun) -> None:
    """Show the notices of a run, about the safety checker and an empty prompt."""
    for notice in drawn.notices:
        st.warning(page.literal(notice), icon=":material/visibility_off:")
    empty_prompt(drawn.trace.settings["prompt"][0])


def empty_prompt(prompt: str) -> None:
    """Say what an empty prompt means for guidance."""
    if not prompt.strip():
        st.info(
            part_labels.StableSections.empty,
            icon=":material/text_fields:",
        )


def save(trace: Trace) -> None:
    """Offer the run as a file, which this page opens as a recorded run on a machine without a GPU."""
    st.download_button(
        part_labels.StableSections.save,
        lambda: stable.saved(trace),
        file_name="run.safetensors",
        icon=":material/save:",
        on_click="ignore",
        help=part_labels.StableSections.save_help,
    )
