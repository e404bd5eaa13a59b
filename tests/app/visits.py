"""What the tests of addresses and programs do on a page: find its controls, change them, and note what is shown.

The pages run as they are, but for what costs time and is not compared: small networks stand in for the trained ones (a
picture still depends on noise, time, class and network) and for the decoders of latents, a job ends before the page
goes on, and each run of Stable Diffusion is made once.
"""

import hashlib
import itertools
import json
import re
from concurrent.futures import wait

import pytest
import torch
from conftest import LARGER
from explorer import beyond_runs, runs, stable, stable_sections, variations

from diffusion_explained.beyond import part_films
from diffusion_explained.comparisons import Timing
from diffusion_explained.discrete import Letters
from diffusion_explained.models import EGNN, PointSet, SpaceTimeDiT
from diffusion_explained.models.dit import DiT
from diffusion_explained.models.unet import UNet

QUICK = {  # of the pages that would compute for long
    "guidance": {"per_class": "2", "sweep_steps": "4"},
    "samplers": {"most": "4"},
    "reverse": {"steps": "2"},
    "break_it": {"break_steps": "2"},
    "beyond": {"video_steps": "2"},
    "text_to_image": {"t2i_steps": "1", "t2i_count": "1"},
    "control": {"control_steps": "1"},
    LARGER: {"t2i_steps": "2"},
    "compare": {"compare_steps": "2"},
}
PAGES = ("start", "forward", "schedules", "reverse", "training", "beyond", "guidance", "samplers", "break_it",
         "text_to_image", LARGER, "control", "latents", "compare")  # fmt: skip
# no settings of the picture: the prompt is filled in, and what stands beside it is chosen
NO_SETTINGS = {"t2i_example", "reader"}
# controls that bring other controls, or set them: they are changed alone, the others all at once
ALONE = {
    "data",
    "model",
    "sd_model",
    "own",
    "start",
    "source",
    "hole",
    "emoji",
    "other",
    "start_emoji",
    "poke_where",
    "t2i_beside",
    "t2i_view",
    "t2i_walk",
    "sampler",
    "where",
    "kind",
    "data_kind",
    "control_kind",
    "scribble_from",
    "outline",
    "edges_of",
    "chain",
    "fork",
    "fork_what",
    *(f"{kind}_task" for kind in ("video", "sound", "shapes", "molecules", "text")),
}
NAMED = {  # choices that are shown by other words than the address has
    "data": {"mnist": "cifar10", "cifar10": "mnist"},
    "model": {"mnist_unet_flow": "mnist_unet_eps", "cifar10_unet_flow": "cifar10_unet_eps"},
    "sd_model": {"micro": "stand-in"},
    "kind": {"flow": "eps", "eps": "flow"},
    "where": {"sampling": "training", "training": "sampling"},
    "data_kind": {"video": "sound", "sound": "shapes", "shapes": "molecules", "molecules": "text", "text": "video"},
    **{f"{kind}_task": {"draw": "noise"} for kind in ("video", "sound", "shapes", "molecules")},
    "t2i_view": {"seeds": "walk", "walk": "grid", "grid": "seeds"},
    "t2i_walk": {"around": "prompts", "prompts": "seeds", "seeds": "around"},
    "t2i_beside": {"nothing": "scale", "prompt": "seed", "seed": "scale", "scale": "nothing"},
    "control_kind": {"scribble": "edges", "edges": "layout", "layout": "scribble"},
    "text_task": {"draw": "fill"},
    "text_sampler": {"ancestral": "most_certain_first"},
    "text_fill": {"a red c_t": "a red _at"},
    "text_noise": {"a red cat": "a red hat"},
    **{
        f"{page}sampler": {"euler": "heun", "ddim": "euler"}
        for page in ("", "t2i_", "compare_", "video_", "sound_", "shapes_", "molecules_")
    },
    "fork_what": {"class": "noise", "noise": "sampler", "sampler": "w"},
    "fork_sampler": {"ddpm": "heun"},
    "schedule": {"cosine": "linear", "linear": "cosine"},
}
FORECASTS = ("Takes about", "The first run also loads")  # the second until the model was measured
# a time is what this run took, and a busy machine disturbs it
MEASURED = re.compile(
    r"(from [\d.]+ to )?[\d.]+ (ms|s|minutes)\b| \*\*Other work disturbed this measurement\*\*[^.]*\."
)


def small_network(self, x_t, t, labels=None):
    """A network of a few operations whose output depends on all that a trained one's does, its weights included."""
    classes = torch.full((len(x_t),), -1.0) if labels is None else labels.float().expand(len(x_t))
    times = torch.as_tensor(t, dtype=torch.float32).expand(len(x_t))
    place = torch.linspace(0, 6, x_t[0].numel()).reshape(x_t.shape[1:])
    each = (-1, *[1] * (x_t.ndim - 1))
    waves = torch.sin((2 + classes).view(each) * place + times.view(each) / 300)
    own = next(self.parameters()).flatten()[:100].float().mean()
    return 0.6 * torch.tanh(x_t.float()) + 0.3 * waves + own


def small_letters(self, x_t, t):
    """Logits of a few operations, which depend on all that a trained text network's do."""
    place = torch.arange(x_t.shape[1])[:, None] + 3 * x_t[..., None] + torch.arange(self.config.kinds)
    own = next(self.parameters()).flatten()[:100].float().mean()
    return 3 * torch.sin(place.float() + 5 * t.float()[:, None, None] + own)


def small_decoder(self, latents, _=None):
    """A picture of a few operations that depends on all channels of the latents and on the decoder's weights."""
    side = 2 ** (len(self.up_blocks) - 1)
    own = next(self.parameters()).flatten()[:100].float().mean()
    mixed = latents[:, :3].float() + 0.5 * latents.float().mean(1, keepdim=True)
    return torch.tanh(0.5 * mixed + own).repeat_interleave(side, 2).repeat_interleave(side, 3).to(latents.dtype)


@pytest.fixture
def cheap_pages(monkeypatch):
    """Pages that take a moment: see the head of this file."""
    for network in (UNet, DiT, SpaceTimeDiT, PointSet, EGNN):
        monkeypatch.setattr(network, "forward", small_network)
    monkeypatch.setattr(Letters, "forward", small_letters)
    # a stand-in has no blocks of time: frames look at frames that are like them
    monkeypatch.setattr(beyond_runs, "frame_attention", lambda _, x_t, *__: (
        torch.einsum("bcfhw,bcghw->bfg", x_t, x_t) / 1024).softmax(-1))  # fmt: skip
    # a second of sound that depends on the spectrogram; Griffin-Lim would take most of the time
    monkeypatch.setattr(part_films, "to_wave", lambda one: 0.1 * one.flatten(1)[:, ::64].repeat(1, 126))
    monkeypatch.setattr("diffusers.models.autoencoders.vae.Decoder.forward", small_decoder)
    monkeypatch.setattr(variations, "PLACES", 3)
    monkeypatch.setattr(variations, "SCALES", (1.0, 4.0))
    for pace in ("digits", "pictures", "slow"):
        monkeypatch.setitem(runs.REFERENCE_STEPS, pace, 4)
        monkeypatch.setitem(runs.SCALES, pace, (0.0, 2.0))
    # the curve over time moves with every reading of the clock, and no address can hold that
    monkeypatch.setattr(runs, "time_evaluation", lambda *_, **__: Timing(0.01, 0.009, 0.011, 9))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # a page with a model that is not on this machine asks the hub
    begin = stable_sections.begin
    monkeypatch.setattr(stable_sections, "begin", lambda job: (begin(job), wait([job._future])))
    monkeypatch.setattr(stable, "draw", drawn_once)


_draw, _drawings = stable.draw, {}


def drawn_once(kept, name, ask, begun, tell):
    """`stable.draw`, kept by all that it is given."""
    given = hashlib.sha256(repr((name, ask, begun.strength)).encode())
    for tensor in (begun.image, begun.mask):
        given.update(b"none" if tensor is None else tensor.numpy().tobytes())
    key = given.digest()
    if key not in _drawings:
        _drawings[key] = _draw(kept, name, ask, begun, tell)
    return _drawings[key]


def keys(at):
    """The settings of a page, the frames of its films among them."""
    visit = at.session_state.visit
    return sorted({*visit.keys, *visit.films})


def words_of(at):
    """Everything on the page that is read as Markdown, but for the page's own."""
    return [element.value for kind in (at.info, at.warning, at.error, at.caption, at.markdown) for element in kind]


def widgets(at):
    """key -> the page's widgets that a visitor can set."""
    kinds_of = (at.slider, at.number_input, at.selectbox, at.select_slider, at.toggle, at.button_group, at.text_input)
    found = {widget.key: widget for widget in itertools.chain(*kinds_of) if widget.key and not widget.disabled}
    return {key: widget for key, widget in found.items() if key not in NO_SETTINGS}


def another(widget):
    """A value that the widget does not have now."""
    value = widget.value
    if widget.key in NAMED:
        return NAMED[widget.key].get(value, next(iter(NAMED[widget.key])))
    match widget.type:
        case "slider" if isinstance(value, tuple | list):
            return (value[0] + 5, value[1] + 10 if value[1] + 10 <= widget.max else value[1] - 10)
        case "slider" | "number_input":
            step = type(value)(widget.step or 1)
            return value + step if value + step <= widget.max else value - step
        case "toggle":
            return not value
        case "text_input":
            return 'a "red" cat\\n'
    if isinstance(value, list):
        return value[1:]
    options = [type(value)(option) for option in widget.options]
    return next(option for option in options[1:] if option != value)


def change(at, key):
    """The page after another value of one control."""
    return drawn(widgets(at)[key].set_value(another(widgets(at)[key])).run())


def change_all(at):
    """The page after another value of every control but those that are changed alone."""
    values = {}
    for key, widget in widgets(at).items():
        if key not in ALONE:
            values[key] = another(widget)
            widget.set_value(values[key])
    at = drawn(at.run())
    now = {key: widget.value for key, widget in widgets(at).items()}
    for key, value in values.items():
        kept = now.get(key, "no more on the page")
        assert kept == value, f"{key} is {kept!r}, not {value!r}: is there a control to be named in ALONE?"
    return at


def alone(at):
    """The keys of the page's controls that are changed alone."""
    return [key for key in widgets(at) if key in ALONE]


def shown(at):
    """All that the page shows: words, pictures, films, programs, and what its widgets say."""
    films = [message for message in map(lambda one: json.loads(one.proto.json), at.get("bidi_component"))]
    return {
        "widgets": {key: widget.value for key, widget in widgets(at).items()},
        "words": [MEASURED.sub("", text) for text in words_of(at) if not text.startswith(FORECASTS)],
        "html": [MEASURED.sub("", one.proto.body) for one in at.get("html")],
        "code": [one.value for one in at.code],
        "films": [(one["film"]["key"], one.get("frame", one.get("at"))) for one in films if one.get("film")],
    }


def drawn(at):
    """The page after what its button starts has ended, if it has one that was not pressed for these settings."""
    run = [button for button in at.button if button.label.startswith("Run") and not button.disabled]
    stale = "made with other settings" in " ".join(caption.value for caption in at.caption)
    if run and (stale or not shown(at)["films"]):
        at = run[0].click().run()
    assert not at.exception and not at.get("progress"), at.exception
    return at
