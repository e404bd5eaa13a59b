"""Stable Diffusion in the explorer: which models are on this machine, how one is loaded, and its runs."""

import math
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from torch import Tensor

from diffusion_explained.devices import choose_device
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion import Trace, download_size, find_weights
from diffusion_explained.stable_diffusion.defaults import (
    Defaults,
    defaults_of_name,
    defaults_of_weights,
    fewer_pixels,
)
from diffusion_explained.stable_diffusion.families import (
    CHECKERS_GB,
    DEFAULT_MODEL,
    FAMILIES,
    MICRO,
    SIZES_GB,
    names_of,
)
from diffusion_explained.stable_diffusion.levels import levels_of
from diffusion_explained.stable_diffusion.on_disk import cache_home
from diffusion_explained.stable_diffusion.pipeline_films import PipelineRun, pipeline_of_trace
from diffusion_explained.stable_diffusion.refining import check_refiner
from diffusion_explained.stable_diffusion.stand_ins import DDPM_CONFIG
from diffusion_explained.stable_diffusion.weights import Weights, is_repository
from explorer import fitting, page, sharing
from explorer.additions import NONE, Additions, added
from explorer.cache import Cache, named_cache
from explorer.jobs import POLL
from explorer.loading import USUAL, Loading
from explorer.runs import settle
from explorer.turns import HEAVY, Tell, held, share_the_cores

if TYPE_CHECKING:
    from diffusion_explained.stable_diffusion import StableDiffusion
    from diffusion_explained.stable_diffusion.pace import Pace

FIRST = Path(__file__).parents[1] / "recorded.safetensors"  # made by `python assets/make.py recorded`
STAND_IN, RECORDED, OTHER = "stand-in", "recorded", "other"
AT_ONCE = (MICRO, STAND_IN)  # small enough for any machine
KNOWN = {name: name.split("/")[1] for name in SIZES_GB}
MODELS = {
    MICRO: "micro: emoji, trained by this project",
    **KNOWN,
    OTHER: "another one",
    RECORDED: "a recorded run",
    STAND_IN: "stand-in, random weights",
}
LABELS = {  # the engine's label of a run -> its badge, and what that means
    "live": (":green-badge[:material/bolt: live]", "computed on this machine by a trained model"),
    "recorded": (
        ":blue-badge[:material/history: recorded]",
        "a trained model made this run earlier; it is shown here, not computed",
    ),
    "stand-in": (
        ":orange-badge[:material/casino: stand-in]",
        "**random weights: do not expect a picture.** The stages, their order and their tensors are the real ones",
    ),
}
OF_MICRO = "computed on this machine by **micro**, a small model that this project trained on emoji"
THUMBNAIL, SMALL, MANY = 96, 64, 150  # pixels of a step's picture; smaller for more than MANY, so that files stay small
UNCHECKED = "The model's safety checker was left out, so no picture was checked."
BUSY = "waiting for another visitor's picture by this model"
FORGET = 60  # seconds after which the machine is checked again
OWN = "the model's own"  # spacing
SLOW = (256, 12)  # pixels a side and steps of a full-size model that a visitor without a GPU waits for
SIDE = 2048  # the most pixels a side
TOKENS = 1024  # of a picture in a transformer; their number does not decide which spacings are allowed


# -- what is on this machine ---------------------------------------------------------------------------------


def on_cpu() -> bool:
    """Whether there is no GPU, so that a full-size model takes minutes per picture."""
    return choose_device().type == "cpu"


@st.cache_data(ttl=FORGET, show_spinner=False)
def missing(name: str, loading: Loading = USUAL) -> str:
    """Why a model cannot be loaded here, in the engine's words; empty if it can."""
    if name == STAND_IN:
        return ""
    try:
        find_weights(name, **loading.files())
    except (OSError, ValueError) as error:
        return str(error)
    return ""


@st.cache_data(ttl=FORGET, show_spinner=False)
def may_ship_checker(name: str) -> bool:
    """Whether a model ships a safety checker, by its files; whether it may, for a model that is not on this machine."""
    if name in (*AT_ONCE, RECORDED, OTHER):
        return False
    try:
        return find_weights(name, safety_checker=False).unchecked
    except ValueError:  # it cannot be loaded, with a safety checker or without
        return False
    except OSError:
        return is_repository(name) and (name in CHECKERS_GB or name not in SIZES_GB)


def _found(name: str, loading: Loading) -> Weights:
    """A model's files, whether or not the visitor's autoencoder and the safety checker can be used.

    Raises the engine's ValueErrors and OSErrors.
    """
    unchecked = replace(loading, safety_checker=False)
    try:
        return find_weights(name, **unchecked.files())
    except (OSError, ValueError):
        if not loading.vae:
            raise
        return find_weights(name, **replace(unchecked, vae="").files())


@st.cache_data(ttl=FORGET, show_spinner=False)
def is_xl(name: str, loading: Loading = USUAL) -> bool:
    """Whether a model is Stable Diffusion XL, by its files, so that a refiner may follow it."""
    try:
        return _found(name, loading).family.name == "sdxl"
    except (OSError, ValueError):  # reported where the model is loaded
        return False


@st.cache_data(ttl=FORGET, show_spinner=False)
def refused_refiner(refiner: str) -> str:
    """Why a model is no refiner that can be loaded here, in the engine's words; empty if it is one."""
    try:
        check_refiner(FAMILIES["sdxl"], find_weights(refiner).family)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


@st.cache_data(ttl=FORGET, show_spinner=False)
def to_download(name: str, safety_checker: bool | None = None) -> float | None:
    """The size of a download in gigabytes; None without a network, or if there is no model of that name."""
    from diffusion_explained.data.hub import hub_is_reachable

    return download_size(name, safety_checker=safety_checker) if hub_is_reachable() else None


@st.cache_data(ttl=FORGET, show_spinner=False)
def _scheduler(name: str, loading: Loading = USUAL) -> dict[str, Any] | None:
    """The configuration of a model's scheduler, with its class, from its files; None if it does not give the levels."""
    if name == STAND_IN:
        return {**DDPM_CONFIG, "_class_name": "PNDMScheduler"}
    if sharing.is_shared() and name != MICRO:
        return None
    try:
        weights = _found(name, loading)
        if weights.family.drive is not None:  # its pipeline chooses the levels, once it is loaded
            return None
        return weights.configuration("scheduler")
    except (OSError, ValueError):
        return None  # the error is reported where the model is loaded


def levels(name: str, count: int, sampler: str, spacing: str | None, loading: Loading = USUAL) -> list[Level] | None:
    """The levels of a model's run, without loading the model; None for a model that is not here.

    Raises ValueError if its schedule has no levels with that spacing.
    """
    config = _scheduler(name, loading)
    own = usual(name, loading).spacing if spacing is None else spacing
    return None if config is None else levels_of(config, count, sampler, own, sequence_length=TOKENS)


@st.cache_data(ttl=FORGET, show_spinner=False)
def usual(name: str, loading: Loading = USUAL) -> Defaults:
    """A model's default settings; on a CPU a full-size model's are a size and steps that a visitor would wait for."""
    if name == MICRO and not missing(MICRO):
        return defaults_of_weights(find_weights(MICRO))
    if name == STAND_IN:
        return fewer_pixels(defaults_of_name(DEFAULT_MODEL), *SLOW)
    try:
        found = defaults_of_name(name) if sharing.is_shared() else defaults_of_weights(_found(name, loading))
    except (OSError, ValueError):  # reported where the model is loaded
        found = defaults_of_name(name)
    return fewer_pixels(found, *(SLOW if on_cpu() else (SIDE, found.num_inference_steps)))


def begins_by_itself(name: str, ask: "Ask", pictures: int = 1, steps: int = 0) -> bool:
    """Whether a run needs no button: its work is at most twice that of the page's default run.

    pictures, steps: the page's default numbers; steps=0 means the model's default.
    """
    of = usual(name)
    return ask.work <= 2 * pictures * (steps or of.num_inference_steps) * math.prod(of.size or SLOW)


def embedded() -> str:
    """The model that any machine can run at once: micro, or the stand-in if micro's weights are missing."""
    return STAND_IN if missing(MICRO) else MICRO


def first_choice() -> str:
    """The default model: full Stable Diffusion where it can run, otherwise `embedded`."""
    return embedded() if sharing.is_shared() or on_cpu() or missing(DEFAULT_MODEL) else DEFAULT_MODEL


def offered() -> tuple[str, ...]:
    """The models to choose from; on a shared explorer only those that ship, and recorded runs that visitors upload."""
    return tuple(name for name in MODELS if not sharing.is_shared() or name in (*AT_ONCE, RECORDED))


def download(name: str, gigabytes: float, tell: Tell, safety_checker: bool | None = None) -> bool:
    """Download a model's weights into the hub's cache. Raises WeightsUnavailableError, which says what to do."""
    from diffusion_explained.stable_diffusion.downloads import fetch

    sharing.refuse(sharing.NO_DOWNLOAD)
    worker = ThreadPoolExecutor(1)
    fetching = worker.submit(fetch, name, safety_checker=safety_checker)
    worker.shutdown(wait=False)
    while not fetching.done():
        arrived = _arrived(name) / 1e9
        tell(arrived / gigabytes, f"{arrived:.1f} of {gigabytes:.1f} GB")
        time.sleep(POLL)
    fetching.result()
    missing.clear()
    for kept in (may_ship_checker, is_xl, refused_refiner, usual, _scheduler, fitting.told):
        kept.clear()
    return True


def _arrived(name: str) -> int:
    """Bytes of a model in the hub's cache, under all of its names."""
    blobs = [cache_home() / f"models--{repo.replace('/', '--')}" / "blobs" for repo in names_of(name)]
    return sum(file.stat().st_size for folder in blobs if folder.is_dir() for file in folder.iterdir())


# -- a model ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """A model and its speed here.

    options: of `load`, with which it fits on this machine (`fitting`).
    turn: the thread that runs the model holds this lock, so that its recording contains no other visitor's run.
    """

    model: "StableDiffusion"
    pace: "Pace"
    options: Mapping[str, Any] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)


def models() -> Cache:
    """The loaded models: micro and one more, or two others."""
    return named_cache("stable diffusion", 2)  # limited by number, not by bytes


def loaded(name: str, loading: Loading = USUAL) -> Loaded | None:
    """A model if it is already loaded as these choices say, or None."""
    return models().find((name, loading))


def load(kept: Cache, name: str, tell: Tell, loading: Loading = USUAL) -> Loaded:
    """The model of that name; loads and measures it first if necessary. This imports diffusers.

    Raises ValueError on a shared explorer for a model that does not ship, before its name is looked up anywhere.
    """
    if name not in AT_ONCE:
        sharing.refuse(sharing.ONLY_SHIPPED)

    def make(tell: Tell) -> Loaded:
        from diffusion_explained import stable_diffusion
        from diffusion_explained.stable_diffusion.pace import measure_pace

        tell(0.0, "loading the model")
        if not on_cpu():  # the same model, loaded in another way, would hold the memory that this one needs
            kept.drop(lambda key: key[0] == name and replace(key[1], safety_checker=None) != how)
        more = {} if name in AT_ONCE else fitting.options(name, loading)
        if name == STAND_IN:
            model = stable_diffusion.stand_in()
        else:
            device = None if name == MICRO else str(choose_device())
            model = stable_diffusion.load(name, device, **more)
        share_the_cores()
        settle()
        tell(0.0, "measuring how long a step takes")
        with HEAVY.turn(tell):
            return Loaded(model, measure_pace(model), more)

    how = replace(loading, safety_checker=None)
    return kept.get((name, loading), make, tell)


# -- a run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """All settings that determine a run, except its model's name and what it starts from.

    loading: how the model is loaded; more: what is added to it; resamplings: RePaint's, with the sampler DDPM, or None.
    """

    prompt: str
    negative: str
    guidance_scale: float
    sampler: str
    spacing: str | None
    num_inference_steps: int
    seeds: tuple[int, ...]
    height: int
    width: int
    loading: Loading = USUAL
    more: Additions = NONE
    resamplings: int | None = None

    @property
    def work(self) -> int:
        """The work of the run: network evaluations times pixels."""
        per_step = self.resamplings or (2 if self.sampler == "heun" else 1)
        return self.num_inference_steps * per_step * len(self.seeds) * self.height * self.width

    def options(self) -> dict[str, object]:
        """The options of `StableDiffusion.steps`, without the refiner."""
        options = {**asdict(self), "seed": list(self.seeds), "negative": self.negative or None}
        for of_model in ("seeds", "loading", "more"):
            del options[of_model]
        if self.resamplings is None:
            del options["resamplings"]
        return options


@dataclass(frozen=True, eq=False)
class RunStart:
    """What a run starts from: image [1, 3, H, W] in [-1, 1] and mask [H, W], or neither for pure noise.

    key: identifies it; program: the lines of Python that make image and mask.
    """

    image: Tensor | None = None
    mask: Tensor | None = None
    strength: float = 1.0
    key: str = ""
    program: str = ""

    def options(self) -> dict[str, object]:
        """The options of `StableDiffusion.steps`."""
        return {"image": self.image, "mask": self.mask, "strength": self.strength}


@dataclass(frozen=True)
class FinishedRun:
    """A run to show: its trace and the picture of the whole, and for a run that was made here also its first latents.

    whole: None for a model that shows no tokens, because its pipeline reads a prompt in a way of its own.
    latents: x_T of the first picture [C, h, w]; notices: about the safety checker; asked: the settings that made
    it.
    """

    trace: Trace
    whole: PipelineRun | None
    latents: Tensor | None = None
    notices: tuple[str, ...] = ()
    asked: tuple[object, ...] = ()


def asked(name: str, ask: Ask, start: RunStart) -> tuple[object, ...]:
    """All that determines a run, to compare with that of another run."""
    return name, ask, start.key


def draw(kept: Cache, name: str, ask: Ask, start: RunStart, tell: Tell) -> FinishedRun:
    """Run a model, loading it first if necessary. Raises the engine's ValueErrors and OSErrors."""
    from diffusion_explained.stable_diffusion import record

    here = load(kept, name, tell, ask.loading)
    second = load(kept, ask.more.refiner, tell, ask.loading.of_refiner) if ask.more.refiner else None
    first: list[Tensor] = []

    def progress(step: Step) -> None:
        if not first:
            z = step.x_t[0].cpu()
            first.append(z if z.ndim == 3 else z[:, z.shape[1] // 2])  # of a video its middle frame
        turn((step.i + 1) / ask.num_inference_steps, f"step {step.i + 1} of {ask.num_inference_steps}")

    options = ask.options() | start.options()
    if second is not None:
        options |= {"refiner": second.model, "refiner_start": ask.more.refiner_start}
    thumbnail = THUMBNAIL if ask.num_inference_steps * len(ask.seeds) <= MANY else SMALL
    with (
        held(here.turn, tell, BUSY),
        nullcontext() if second is None else held(second.turn, tell, BUSY),
        HEAVY.turn(tell) as turn,
        warnings.catch_warnings(record=True) as said,
        added(here.model, ask.more) as model,
    ):
        warnings.simplefilter("always")
        trace = record(model, thumbnail=thumbnail, progress=progress, **options)
    notices = {str(one.message) for one in said if "safety checker" in str(one.message)}
    if ask.loading.safety_checker is False:
        notices.add(UNCHECKED)
    return FinishedRun(trace, whole_of(trace), first[0], tuple(sorted(notices)), asked(name, ask, start))


def whole_of(trace: Trace) -> PipelineRun | None:
    """The picture of the whole of a trace, or None for one without tokens."""
    return pipeline_of_trace(trace) if trace.tokens[0] else None


@st.cache_data(max_entries=4, show_spinner="Opening the recorded run")
def opened(data: bytes, name: str) -> FinishedRun:
    """The run in an uploaded file. Raises OSError for any other file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.safetensors"
        path.write_bytes(data)
        try:
            trace = Trace.load(path)
        except OSError as error:
            raise OSError(str(error).replace(str(path), name)) from error
    return FinishedRun(trace, whole_of(trace))


def first_run() -> FinishedRun:
    """The run of micro that ships with the explorer: what a page shows before any other run."""
    return opened(FIRST.read_bytes(), FIRST.name)


def saved(trace: Trace) -> bytes:
    """The bytes of a file with this trace, for `opened` to read."""
    with tempfile.TemporaryDirectory() as folder:
        return trace.save(Path(folder) / "trace.safetensors").read_bytes()


def spacing_of(said: Mapping[str, Any]) -> str:
    """A phrase with the spacing in a run's settings; empty for files of earlier releases, which have none."""
    return f" by {said['spacing'] or OWN} spacing" if "spacing" in said else ""


def resamplings_of(said: Mapping[str, Any]) -> str:
    """A phrase with the number of RePaint's resamplings; empty without them, and for files that do not say."""
    return f" of {said['resamplings']} resamplings each" if said.get("resamplings") else ""


def safety_of(said: Mapping[str, Any]) -> str:
    """A phrase for a run made without the model's safety checker; empty otherwise, and for files that do not say."""
    return ", without its safety checker" if said.get("safety_checker_left_out") else ""


def previews_of(said: Mapping[str, Any]) -> str:
    """A phrase for a run whose steps were drawn by a preview decoder; empty otherwise."""
    return f", steps drawn by {said['preview_decoder']}" if said.get("preview_decoder") else ""


def frames_of(said: Mapping[str, Any]) -> str:
    """A phrase for a video, of which the middle frame is shown; empty for a picture."""
    return f", the middle of {said['frames']} frames" if said.get("frames") else ""


def facts(trace: Trace) -> str:
    """A run's settings, machine, date and times, in a line or two."""
    said, seconds = trace.settings, trace.settings["seconds"]
    stages = " · ".join(f"{name} {page.duration(seconds[name])}" for name in ("text", "steps", "decode"))
    seeds = ", ".join(map(str, said["seeds"]))
    return (
        f"{said['model']}{safety_of(said)}{previews_of(said)} · {said['sampler']}, "
        f"{said['num_inference_steps']} steps{spacing_of(said)}{resamplings_of(said)}, "
        f"w = {said['guidance_scale']:g} · "
        f"seed{'s' if len(said['seeds']) > 1 else ''} {seeds} · {said['width']} × {said['height']} pixels"
        f"{frames_of(said)} · "
        f"{said['device']}, {said['date']} · {stages}"
    )


def in_python(name: str, loading: Loading = USUAL, preview_decoder: str = "") -> str:
    """The call that loads a model in a program."""
    if name == STAND_IN:
        return "stand_in()"
    if name == MICRO:
        return f"load({name!r})"
    here = loaded(name, loading)
    options = {**(fitting.options(name, loading) if here is None else here.options)}
    options |= {"preview_decoder": preview_decoder} if preview_decoder else {}
    more = "".join(f", {option}={value!r}" for option, value in options.items())
    return f"load({name!r}, device={str(choose_device())!r}{more})"
