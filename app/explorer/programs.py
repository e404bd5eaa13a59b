"""The program that computes what a page shows: "the same in Python", made from the page's own settings.

Every value is printed by repr, and the program passes every option that the page passes to the engine, so that nothing
depends on a default. A test executes each program and compares its tensors with the page's.
"""

from collections.abc import Callable, Mapping

import streamlit as st
from torch import Tensor

from diffusion_explained.schedules import SCHEDULES
from explorer import share_panel
from explorer.branches import Branch, sampling_options
from explorer.digit_lessons import program_of
from explorer.readers import reader
from explorer.runs import Settings, Spacing, columns_of
from explorer.stable import Ask, RunStart, in_python
from explorer.taught import lesson_of


def show(program: str, picture: str = "", numbers: "Callable[[], Mapping[str, Tensor]] | None" = None) -> None:
    """Show a program on the page (`fold`), and offer it to share.

    picture: its expression for the pixels [H, W, 4] that the page shows, with `mosaic` and `pixels` of
    `diffusion_explained.film`; numbers: what computes the tensors behind the picture.
    """
    offer = share_panel.offers()
    offer.program, offer.picture, offer.numbers = program, picture, numbers
    fold(program)


def fold(program: str) -> None:
    """Show a program in an expander, as the reader wants it: closed, open, or not at all."""
    shown = reader().program
    if shown == "hidden":
        return
    with st.expander("The same in Python", icon=":material/code:", expanded=shown == "open"):
        st.code(program, language="python")


def arguments(options: Mapping[str, object]) -> str:
    """Options as keyword arguments of a call."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def spelled(spacing: Spacing) -> tuple[str, str]:
    """A spacing as a program writes it, and the import that this needs."""
    if not isinstance(spacing, tuple):
        return repr(spacing), ""
    made = f"DDPMSchedule.of_log_snr({list(spacing)!r})"
    return made, "from diffusion_explained.schedules import DDPMSchedule\n"


def network(name: str) -> tuple[str, str]:
    """The import and the lines that make `model`: a shipped network is loaded, the visitor's own is trained again."""
    lesson = lesson_of(name)
    if lesson is not None:
        return "", program_of(lesson)
    return "from diffusion_explained import load_pretrained\n", f"model = load_pretrained({name!r})"


def sampling(settings: Settings, *, seen: str = "") -> str:
    """A run of one of our networks: model, denoise, steps, and the final x_0 [B, C, H, W]."""
    loading, made = network(settings.model)
    spacing, importing = spelled(settings.spacing)
    how = arguments({name: value for name, value in settings.step_options().items() if name != "spacing"})
    return f"""{loading}from diffusion_explained.samplers import final
{importing}
{made}
labels = {list(settings.labels)!r}
denoise = model.denoiser(labels, {arguments(settings.denoiser_options())})
steps = list(model.steps(denoise, len(labels), {settings.num_inference_steps}, {how}, spacing={spacing}))
x_0 = final(steps){seen}"""


def finishing(name: str, label: int | None, num_inference_steps: int, strength: float, count: int) -> str:
    """Image to image from a visitor's drawing: steps, and the final x_0 [B, C, H, W]."""
    loading, made = network(name)
    labels = None if label is None else [label] * count
    return f"""{loading}from diffusion_explained.data import load_image
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import generators, randn
from diffusion_explained.samplers import Start, final, run

{made}
channels, size, _ = model.image_shape
drawing = load_image("drawing.png", size, channels)  # what you drew, saved
levels = model.levels({num_inference_steps!r})
levels = levels[len(levels) - 1 - {round(strength * num_inference_steps)} :]  # strength {strength!r}
streams = generators({count!r}, 0)
eps = randn(({count!r}, *model.image_shape), streams)
x_t = add_noise(drawing.expand_as(eps), eps, levels[0])
steps = list(run("euler", model.denoiser({labels!r}), Start(x_t, levels, streams)))
x_0 = final(steps)"""


def animated(settings: Settings, noun: str) -> str:
    """The same run, with its film saved as a GIF file."""
    return sampling(
        settings,
        seen=f"""

from diffusion_explained.film import film_of, gif

open({f"{noun}s.gif"!r}, "wb").write(gif(film_of(steps, {columns_of(settings)})))""",
    )


def branched(settings: Settings, of: Branch, noun: str) -> str:
    """A run and its branch: also x_0_branch [B, C, H, W], with the film of both saved as a GIF file."""
    importing, state = "", f"steps[{of.i}].x_t  # before step {of.i + 1}"
    if of.what == "noise":
        importing = (
            "from diffusion_explained.forward import add_noise\n"
            "from diffusion_explained.noise import generators, randn\n"
        )
        state = f"""add_noise(  # new noise on the image predicted in step {of.i + 1}
    steps[{of.i}].pred.x_0, randn(x_0.shape, generators(len(labels), {of.settings.seed!r})), levels[{of.i}]
)"""
    return sampling(
        settings,
        seen=f"""

from diffusion_explained.comparisons import branch
from diffusion_explained.film import branch_film, gif
{importing}
levels = model.levels({settings.num_inference_steps}, spacing={spelled(settings.spacing)[0]})
other = model.denoiser({list(of.settings.labels)!r}, {arguments(of.settings.denoiser_options())})
x_t = {state}
branched = list(branch(other, x_t, levels, {of.i}, {arguments(sampling_options(of.settings))}))
x_0_branch = final(branched)
open({f"{noun}s.gif"!r}, "wb").write(gif(branch_film(steps, branched, {columns_of(settings)}), panels=(0, 2)))""",
    )


def noising(
    data: str,
    label: int,
    number: int,
    schedule: str,
    handles: tuple[float, ...],
    model: str,
    seed: int,
    *,
    own: tuple[int, int] | None,
    invert: bool,
) -> str:
    """Forward: x_t [51, C, H, W] at all levels, and the network's predictions; own: channels and size of a file."""
    importing, network_made = network(model)
    made = f"DDPMSchedule.of_log_snr({list(handles)!r})" if handles else f"{SCHEDULES[schedule].__qualname__}()"
    if own:
        channels, size = own
        loading = "from diffusion_explained.data import load_image"
        image = f'x_0 = load_image("picture.png", {size}, {channels}, invert={invert!r})  # your own file'
    else:
        loading = f"from diffusion_explained.data import {LOADING[data]}"
        image = f"""data = {LOADED[data]}
index = (data.labels == {label}).nonzero().flatten()[{number}]
x_0, _ = data.batch(index[None])"""
    return f"""import torch

{importing}from diffusion_explained.comparisons import one_shots
{loading}
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import generators, randn
from diffusion_explained.schedules import {made.split(".")[0].removesuffix("()")}

{image}
eps = randn(x_0.shape, generators(1, {seed!r}))
schedule = {made}
levels = [schedule.clean, *reversed(schedule.levels(50)[:-1])]  # from data to noise
x_t = torch.cat([add_noise(x_0, eps, level) for level in levels])

{network_made}
denoise = model.denoiser(labels={None if own else f"[{label!r}] * 50"}, guidance_scale=1.0)
predictions = one_shots(denoise, model.schedule, x_t[1:], levels[1:])  # x_0 and eps, each [50, C, H, W]"""


LOADING = {"mnist": "bundled_mnist", "cifar10": "load_dataset", "made": "made_by_model"}
LOADED = {
    "mnist": "bundled_mnist()",
    "cifar10": 'load_dataset("cifar10", "train")',
    "made": 'made_by_model("cifar10")  # pictures that our own network made',
}


def schedules(made: Mapping[str, str], data: str, picture: tuple[int, int]) -> str:
    """Schedules: each schedule, and x_t of a picture under it; made: name -> the call that makes the schedule."""
    classes = sorted({call.split(".")[0].split("(")[0] for call in made.values()})
    lines = "\n".join(f"    {name!r}: {call}," for name, call in made.items())
    return f"""from diffusion_explained.data import {LOADING[data]}
from diffusion_explained.film import shown
from diffusion_explained.forward import add_noise
from diffusion_explained.noise import generators, randn
from diffusion_explained.schedules import {", ".join(classes)}

schedules = {{
{lines}
}}
data = {LOADED[data]}
index = (data.labels == {picture[0]}).nonzero().flatten()[{picture[1]}]
x_0, _ = data.batch(index[None])
eps = randn(x_0.shape, generators(1, 0))
x_t = {{
    name: [shown(add_noise(x_0, eps, level), level)[0] for level in [one.clean, *reversed(one.levels(10)[:-1])]]
    for name, one in schedules.items()
}}"""


def guidance(
    model: str, scales: tuple[float, ...], per_class: int, num_inference_steps: int, spacing: str | None, seed: int
) -> str:
    """Guidance: images [B, C, H, W], class accuracy and diversity at each scale."""
    importing, made = network(model)
    return f"""import torch

{importing}from diffusion_explained.metrics import class_accuracy, diversity
from diffusion_explained.pretrained import load_classifier

{made}
classifier = load_classifier({f"{model.split('_')[0]}_classifier"!r})
labels = torch.arange(model.num_classes).repeat({per_class!r})
images, measured = {{}}, {{}}
for scale in {scales!r}:
    x_0 = model.sample(
        labels, num_inference_steps={num_inference_steps!r}, sampler="euler", spacing={spacing!r},
        guidance_scale=scale, seed={seed!r},
    )
    images[scale] = x_0
    measured[scale] = class_accuracy(x_0, labels, classifier), diversity(x_0, labels, classifier)"""


def racing(settings: Settings, samplers: list[str], counts: list[int], spacing: Spacing) -> str:
    """Samplers: the reference x_0 [B, C, H, W], and one `Finish` per sampler and number of steps."""
    how, importing = spelled(spacing)
    return sampling(
        settings,
        seen=f"""  # as good as exact

from diffusion_explained.comparisons import race
{importing}
finishes = list(race(
    model, denoise, x_0, {samplers!r}, {counts!r}, seed={settings.seed!r}, spacing={how}
))
for one in finishes:
    print(one.sampler, one.num_inference_steps, one.evaluations, one.distance)""",
    )


def diffusion(name: str, ask: Ask, start: RunStart, *, model: str = "model", steps: str = "steps") -> str:
    """A run of Stable Diffusion: model, steps, and the final pictures [B, 3, H, W]."""
    loading, more = in_python(name, ask.loading, ask.more.preview_decoder), ask.more
    refiner = f"\nrefiner = {in_python(more.refiner, ask.loading.of_refiner)}" if more.refiner else ""
    made = f"\n{start.program}\n" if start.program else ""
    return f"""from diffusion_explained.stable_diffusion import {loading.split("(")[0]}
{made}
{model} = {loading}{more.program(model)}{refiner}
{_steps(ask, start, model, steps)}
pictures = {model}.decode({steps}[-1].x_next)  # any step's pred.x_0 can be decoded too"""


def _steps(ask: Ask, start: RunStart, model: str, steps: str) -> str:
    """The call that runs a model, with every option."""
    body = "\n    ".join(run_options(ask, start))
    return f"""{steps} = list({model}.steps(
    {ask.prompt!r},
    {body}
))"""


def run_options(ask: Ask, start: RunStart, *, without: str = "") -> list[str]:
    """All options of a run but its prompt, one line each; without: the name of one that is left out."""
    options = {key: value for key, value in ask.options().items() if key not in ("prompt", without)}
    lines = [f"{key}={value!r}," for key, value in options.items()]
    if start.image is not None:
        lines += ["image=image,", f"strength={start.strength!r},"]
    if start.mask is not None:
        lines += ["mask=mask,"]
    if ask.more.refiner:
        lines += [f"refiner=refiner, refiner_start={ask.more.refiner_start!r},"]
    return lines


def two_runs(name: str, ask: Ask, start: RunStart, other: Ask, image: int) -> str:
    """Two runs of one model on one timeline: their steps, pictures, and their distance at each step."""
    return f"""{diffusion(name, ask, start)}

from diffusion_explained.stable_diffusion.pipeline_films import distances

{_steps(other, start, "model", "other_steps")}
other_pictures = model.decode(other_steps[-1].x_next)
apart = distances(steps, other_steps, {image!r})  # |x_A - x_B| / |x_A| at each step, and at the end"""


def compared(name: str, ask: Ask, settings: Settings) -> str:
    """Both runs of the page Compare: x_0 of ours, pictures of Stable Diffusion."""
    return f"{sampling(settings)}\n\n{diffusion(name, ask, RunStart(), model='theirs', steps='their_steps')}"


def latents(
    name: str, of_emoji: tuple[str, str], other: tuple[str, str], side: int, mixes: int, *, own: bool,
    channel: int, amount: float, place: tuple[int, int] | None,
) -> str:  # fmt: skip
    """Latents: encode, decode, change and mix."""
    loading = in_python(name)
    where = ", ".join(map(str, (0, channel, *place))) if place is not None else f"0, {channel}"
    x_0 = f'load_image("picture.png", {side}, 3)  # your own file' if own else f"of_name(*{of_emoji!r})"
    return f"""import torch

from diffusion_explained.data import load_image
from diffusion_explained.micro.emoji import STYLES, load_emoji_sample
from diffusion_explained.micro.reconstruction import on_white, psnr
from diffusion_explained.stable_diffusion import {loading.split("(")[0]}

model, emoji = {loading}, load_emoji_sample()


def of_name(name, style):
    chosen = (emoji.subject == emoji.names.index(name)) & (emoji.style == STYLES.index(style))
    return on_white(emoji.images[chosen][:1])


x_0 = {x_0}
z = model.encode(x_0)
decoded = model.decode(z)
print(psnr(decoded, x_0))

changed = z.clone()
changed[{where}] += {amount!r}
poked = model.decode(changed)

other = model.encode(of_name(*{other!r}))
shares = torch.linspace(0, 1, {mixes})[:, None, None, None]
mixed = torch.cat([model.decode(batch) for batch in ((1 - shares) * z + shares * other).split(4)])"""
