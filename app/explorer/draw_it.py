"""Draw it: a visitor draws a blob, and the network finishes it (image to image, with several seeds)."""

import hashlib

import streamlit as st
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from diffusion_explained.film import Film, film_of
from diffusion_explained.forward import add_noise
from diffusion_explained.metrics import classify
from diffusion_explained.noise import generators, randn
from diffusion_explained.samplers import Start, run
from explorer import address, controls, page, part_labels, programs
from explorer.board import PAINTS, board, over
from explorer.cache import named_cache
from explorer.choices import Choice
from explorer.runs import class_names, classifier_of, model
from explorer.scrubber import scrubber
from explorer.turns import LIGHT, Tell, Turn

FINER = 10  # pixels of the board per pixel of the image, so that a stroke has soft edges
COUNT = 5  # drawings, one per seed
STEPS = {"digits": 20, "pictures": 12, "slow": 6}  # of a whole run, by the pace of the network
ANY = "any"
INK = {"white": "#ffffff"}
Finished = tuple[Film, Tensor]  # the film, and the final images [COUNT, C, H, W]


def show(choice: Choice) -> None:
    """The board, and beside it what the network makes of what is drawn."""

    @page.fragment
    def draw_it() -> None:
        _draw_it(choice)

    draw_it()


def _draw_it(choice: Choice) -> None:
    st.header(part_labels.DrawIt.title, anchor=False)
    asking, result = st.columns([1, 2.2], gap="large")
    channels, height, width = model(choice.model).image_shape
    paper = torch.full((1, 3, FINER * height, FINER * width), -1.0)
    with asking:
        st.markdown(part_labels.DrawIt.lead)
        drawn = None
        try:
            drawn = board(paper, key=f"blob_{choice.data}", paints=INK if channels == 1 else PAINTS)
        except ValueError as error:  # a program can send anything
            st.error(page.literal(str(error)), icon=":material/broken_image:")
    with result:
        place, (first, second) = st.container(), st.columns(2, gap="medium")
    names = class_names(choice.data)
    name = controls.choice(first, part_labels.DrawIt.finish_as, [ANY, *names], ANY, key="blob_class")
    strength = controls.slider(
        second, part_labels.DrawIt.strength, 0.3, 1.0, 0.7, 0.05, key="blob_strength",
        help=part_labels.DrawIt.strength_help,
    )  # fmt: skip
    with place:
        if drawn is None:
            st.caption(part_labels.DrawIt.nothing)
            return
        address.leaves_out("what you drew")
        x_0 = avg_pool2d(over(drawn, paper), FINER)[:, :channels]
        label = None if name == ANY else names.index(name)
        with page.progress(part_labels.DrawIt.finishing) as tell:
            film, images = finished(choice, x_0, label, strength, tell)
        scrubber(film, key="blob", name="drawn", autoplay=True)
        _, logits = classify(images, classifier_of(choice.data))
        read = ", ".join(names[k] for k in logits.argmax(1))
        st.caption(part_labels.DrawIt.read.format(count=COUNT, read=read))
    with result:
        programs.fold(programs.finishing(choice.model, label, STEPS[choice.pace], strength, COUNT))


def finished(choice: Choice, x_0: Tensor, label: int | None, strength: float, tell: Tell) -> Finished:
    """Noise added to x_0 [1, C, H, W], then removed by the network's last steps, from COUNT seeds."""

    def make(tell: Tell) -> Finished:
        with LIGHT.turn(tell) as turn:
            return _made(choice, x_0, label, strength, turn)

    digest = hashlib.sha256(x_0.numpy().tobytes()).hexdigest()
    return named_cache("blobs").get((choice.model, digest, label, strength), make, tell)


def _made(choice: Choice, x_0: Tensor, label: int | None, strength: float, turn: Turn) -> Finished:
    network, streams = model(choice.model), generators(COUNT, 0)
    levels = network.levels(STEPS[choice.pace])
    levels = levels[len(levels) - 1 - round(strength * STEPS[choice.pace]) :]
    eps = randn((COUNT, *network.image_shape), streams)
    x_t = add_noise(x_0.expand_as(eps), eps, levels[0])
    denoise = network.denoiser(None if label is None else [label] * COUNT)
    steps = []
    for step in run("euler", denoise, Start(x_t, levels, streams)):
        steps.append(step)
        turn((step.i + 1) / (len(levels) - 1), f"step {step.i + 1} of {len(levels) - 1}")
    return film_of(steps, COUNT, panels=2, rows=(1, 1)), steps[-1].x_next.clamp(-1, 1)
