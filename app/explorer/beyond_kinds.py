"""The kinds of data of the page Beyond images: for each its words, its controls, and what was measured of it.

A new kind is one row in OF_KINDS, its class's control one in LABELS, its panel one in `beyond_runs.PANELS`; the page
names it in its switch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from diffusion_explained.beyond import KINDS
from diffusion_explained.beyond.video import CLASS_NAMES
from diffusion_explained.measured import rows_of
from explorer import controls, labels, names, part_labels, sharing
from explorer.beyond_runs import Ask, Made, made, model, program
from explorer.beyond_text import TextAsk, Written, written
from explorer.beyond_text import program as text_program

STEPS = (1, 2, 4, 6, 8, 10, 15, 20, 30, 50, 100)
MOST_LETTERS = 128  # of a text; the networks take no more
TASKS = {
    "draw": "Draw from noise",
    "noise": "Add noise",
    "continue": "Continue a frame",
    "fill": "Fill the gaps",
}
SENTENCE = "it is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want"
GAPS = "it is a truth __________ acknowledged, that a ______ man in possession of a good _______, must be in want"


@dataclass(frozen=True)
class Shown:
    """What a kind's settings give: the film's content, what is downloaded, the program, and words about the run."""

    result: Made | Written
    file: Callable[[], bytes]
    suffix: str
    program: str
    caption: str


@dataclass(frozen=True)
class Row:
    """A kind of data on the page.

    lead: what is drawn, and by what; tasks: of TASKS; settings: shows the controls of a task, called as
    settings(kind, task) -> the settings; measures: measure of the weight file's card -> (words, format).
    """

    lead: str
    tasks: tuple[str, ...]
    settings: Callable[[str, str], Any]
    measures: Mapping[str, tuple[str, str]]


# -- the controls of a class --------------------------------------------------------------------------------------


def _of_video() -> int:
    digit = controls.choice(st, part_labels.BeyondKinds.digit, list(range(10)), 3, key="digit")
    left, right = st.columns(2, gap="small")
    speed = controls.segments(left, part_labels.BeyondKinds.speed, ("slow", "fast"), "slow", key="speed")
    count = controls.segments(right, part_labels.BeyondKinds.digits, ("one", "two"), "one", key="count")
    return CLASS_NAMES.index(f"{str(digit) * (1 + (count == 'two'))}-{speed}")


def _of_class(kind: str, label: str, usual: str, key: str) -> int:
    classes = KINDS[kind].class_names
    return classes.index(controls.choice(st, label, list(classes), usual, key=key))


LABELS: dict[str, Callable[[], int]] = {
    "video": _of_video,
    "sound": lambda: _of_class("sound", "Word", "seven", "word"),
    "shapes": lambda: _of_class("shapes", "Shape", "chair", "shape"),
    "molecules": lambda: _of_class("molecules", "Molecule", "aromatic", "molecule"),
}


def _seed(where: Any) -> int:
    return controls.number(where, labels.SEED, 0, 99999, 0, key="seed")


def settings_of_kind(kind: str, task: str) -> Ask:
    """The controls of a kind of tensors."""
    usual, guided = KINDS[kind].sampling, model(kind).default_guidance_scale
    first, second, third, fourth = st.columns(4, gap="medium")
    with first:
        label = LABELS[kind]()
    seed = _seed(fourth)
    if task == "noise":
        return Ask(kind, task, label, seed)
    steps = controls.steps(
        second, labels.STEPS, sharing.up_to(STEPS, sharing.STEPS), usual["num_inference_steps"], key=f"{kind}_steps"
    )
    scale = controls.slider(third, labels.SCALE, 0.0, 8.0, guided, 0.5, key=f"{kind}_w", help=labels.OFF_OR_NONE)
    sampler = usual["sampler"]
    if task == "draw":
        sampler = controls.choice(
            second, labels.SAMPLER, list(names.SAMPLERS), sampler, key=f"{kind}_sampler", format_func=names.SAMPLERS.get
        )
    sharing.say(labels.MOST_STEPS.format(steps=sharing.STEPS))
    return Ask(kind, task, label, seed, steps, sampler, scale)


def settings_of_text(kind: str, task: str) -> TextAsk:
    """The controls of a text."""
    text, chain = "", "masked"
    if task != "draw":
        usual, label = (GAPS, "Your text; _ is a letter to write") if task == "fill" else (SENTENCE, "Your text")
        text = controls.text(st, label, usual, key=f"text_{task}", most=MOST_LETTERS)
    first, second, third, fourth = st.columns(4, gap="medium")
    if task == "fill":
        first.caption(part_labels.BeyondKinds.gaps)
    else:
        chain = controls.segments(first, part_labels.BeyondKinds.chain, ("masked", "uniform"), "masked", key="chain")
    seed = _seed(fourth)
    if task == "noise":
        return TextAsk(task, chain, text, seed)
    steps = controls.steps(second, labels.STEPS, sharing.up_to(STEPS, sharing.STEPS), 50, key="text_steps")
    sampler = "ancestral"
    if chain == "masked":
        sampler = controls.choice(
            third, labels.SAMPLER, list(TEXT_SAMPLERS), sampler, key="text_sampler", format_func=TEXT_SAMPLERS.get
        )
    sharing.say(labels.MOST_STEPS.format(steps=sharing.STEPS))
    return TextAsk(task, chain, text, seed, steps, sampler)


TEXT_SAMPLERS = {"ancestral": "Ancestral", "most_certain_first": "Most certain first"}


SHARE, NUMBER = ".1%", ".3g"
OF_KINDS = {
    "video": Row(
        "A clip is 16 frames of 32 × 32 pixels, one tensor. A transformer over patches of space and time predicts all "
        "frames at once, for a digit and its speed.",
        ("draw", "noise", "continue"),
        settings_of_kind,
        {
            "class_kept": ("right digit, of all frames", SHARE),
            "path_error": ("pixels from a straight path", NUMBER),
            "within_a_pixel": ("within one pixel of it", SHARE),
            "both_named": ("of two digits that stand apart, both right", SHARE),
        },
    ),
    "sound": Row(
        "A second of speech as a spectrogram: 64 bands of frequencies at 64 moments. The U-Net of the digits draws it, "
        "and Griffin-Lim finds a wave that has this spectrogram. Press play at any step.",
        ("draw", "noise"),
        settings_of_kind,
        {
            "named": ("words named right by a classifier", SHARE),
            "nearest": ("decibels to the nearest training clip", NUMBER),
        },
    ),
    "shapes": Row(
        "A shape is a set of 1,024 points, so the network must not care about their order: it attends over points. "
        "Drag the picture to turn it, at any step.",
        ("draw", "noise"),
        settings_of_kind,
        {
            "one_nn": ("1-nearest-neighbour accuracy, 50% is best", SHARE),
            "coverage": ("coverage of real shapes", SHARE),
            "chamfer": ("Chamfer distance of a real shape", NUMBER),
            "class_kept": ("nearest real shape of the right class", SHARE),
        },
    ),
    "molecules": Row(
        "Up to nine atoms in space, each with its element; hydrogens are left out. Turn the noise, and the network's "
        "molecule is turned with it. Bonds are no part of the data: they follow from the distances.",
        ("draw", "noise"),
        settings_of_kind,
        {
            "valid": ("valid: bonds, valences, one piece", SHARE),
            "unique": ("different ones, of the valid", SHARE),
            "novel": ("of these, not in the training data", SHARE),
            "asked": ("with the ring that was asked for", SHARE),
            "length": ("ångströms from real bond lengths", NUMBER),
        },
    ),
    "text": Row(
        "Letters cannot be scaled or added, so noise is another chain: each letter is kept, or lost to a mask (or to a "
        "random letter). The sampler writes the most probable letters, a few per step.",
        ("draw", "fill", "noise"),
        settings_of_text,
        {},
    ),
}


# -- what they give -----------------------------------------------------------------------------------------------


def show_run(ask: Ask, tell: Any) -> Shown:
    """The run of a kind of tensors."""
    kind, result = KINDS[ask.kind], made(ask, tell)
    suffix, writer = next(iter(kind.writers.items()))
    name = kind.class_names[ask.label]
    caption = {
        "draw": f"Class {name}, drawn on this machine just now.",
        "noise": f"Class {name}: a real one, which the network was not trained on, with noise; and what the network "
        "predicts of it in one evaluation.",
        "continue": f"Class {name}: the first frame is a real one, which the network was not trained on; the others "
        "are painted (RePaint), though the network was not trained to continue clips.",
    }[ask.task]
    return Shown(result, lambda: writer(result.states[-1].clamp(-1, 1), [name]), suffix, program(ask), caption)


def show_text(ask: TextAsk, tell: Any) -> Shown:
    """The run of a text model."""
    result = written(ask, tell)
    caption = {
        "draw": f"{len(result.text)} letters by a network that read five novels of Jane Austen, letter by letter.",
        "fill": "Underlined in blue: your letters, which stay. What follows the end of your text is written too.",
        "noise": "Underlined in vermilion: what was lost at this level.",
    }[ask.task]
    return Shown(result, lambda: f"{result.text}\n".encode(), ".txt", text_program(ask), caption)


def show(ask: Ask | TextAsk, tell: Any) -> Shown:
    """What the settings give. Raises ValueError for a text that the network cannot read."""
    return show_text(ask, tell) if isinstance(ask, TextAsk) else show_run(ask, tell)


def measured(kind: str) -> str:
    """What was measured of a kind, as a table: samples beside real data and chance."""
    if kind == "text":
        return _measured_text()
    row = model(kind).card["evaluation"][0]
    lines = [
        f"| {words} | **{row['samples'][key]:{how}}** | {row['real'][key]:{how}} | {row['chance'][key]:{how}} |"
        for key, (words, how) in OF_KINDS[kind].measures.items()
    ]
    settings = row["settings"]
    return "\n".join(["| measured | drawn | real | chance |", "|---|---|---|---|", *lines]) + (
        f"\n\n{row['n']} samples, {settings['num_inference_steps']} steps of "
        f"{names.SAMPLERS[settings.get('sampler', 'euler')]}, w = {settings['guidance_scale']:g}."
    )


def _measured_text() -> str:
    """Bits per letter of a novel that the networks did not read."""
    last = {row["model"]: row for row in rows_of("text", "limit")}  # of each network its most levels
    grams = min(row["mean"] for row in rows_of("text", "floor") if row["model"].endswith("-gram"))
    lines = [f"| {said} | {last[name]['mean']:.2f} ± {last[name]['error']:.2f} |" for name, said in TEXTS.items()]
    lines.append(f"| counted letters, the best n-gram | {grams:.2f} |")
    return "\n".join(["| measured | bits per letter, less is better |", "|---|---|", *lines]) + (
        f"\n\n{last['masked']['n']:,} texts of *Persuasion*, which no network has read; bounds of "
        f"{last['masked']['levels']:,} levels."
    )


TEXTS = {
    "masked": "**masked**, at most",
    "uniform": "**uniform**, at most",
    "autoregressive": "the same network, left to right",
}
