"""The part of the page Control in which a visitor teaches the model a style of their own, from a few pictures."""

import hashlib
from dataclasses import dataclass
from functools import partial

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.film import pixels, png
from diffusion_explained.micro.lora_pictures import caption_with, read_pictures, subject_of
from diffusion_explained.micro.made_styles import EXAMPLES, lora_of, made_pictures
from explorer import (
    address,
    controls,
    jobs,
    labels,
    lesson_jobs,
    page,
    part_labels,
    programs,
    stable_sections,
    style_lessons,
    tries,
)
from explorer.board import board, kept, over
from explorer.control_words import STYLE_NOTE, STYLE_TRIES
from explorer.scrubber import scrubber
from explorer.style_lessons import LESSON_STEPS, WORD, SecondLoRA, Styled, StyleLearning, StyleLesson

SIDE = 128
FROM = {"ink": "Outlines", "mosaic": "Mosaics", "drawn": "Draw five", "files": "Files of yours"}
TO_DRAW = ("cat", "house", "tree", "fish", "cup")
PEN_WIDTH = 6
LEAST = 5
PROMPT = caption_with(WORD, "rocket")
STEPS = (8, 12, 15, 20, 30)
NO_SECOND, OWN_FILE = "none", "file"
SECONDS = {NO_SECOND: "None", "ink": "Outlines", "mosaic": "Mosaics", OWN_FILE: "A file of yours"}
SECOND_FILE = "second.safetensors"
IMPORT_READY = "\nfrom diffusion_explained.micro.made_styles import lora_of"


def show() -> None:
    """The whole part: pictures, training, what is drawn, and the program that gives the same."""
    with st.container(key="result-first"):
        giving, result = st.columns([1, 2.2], gap="large")
    with giving:
        origin = controls.choice(
            st, part_labels.StylePanel.origin, list(FROM), "ink", key="style_from", format_func=FROM.get
        )
        given = {"drawn": _drawn, "files": _files}.get(origin, partial(_ready, origin))()
        first, second = st.columns(2)
        steps = controls.steps(first, labels.TRAINING_STEPS, LESSON_STEPS, 300, key="style_steps")
        seed = controls.number(second, labels.SEED, 0, lesson_jobs.MOST_SEED, 0, key="style_seed")
    if given is None:
        result.info(part_labels.StylePanel.least.format(least=LEAST), icon=":material/brush:")
        page.end()
    pictures, captions, program = given
    digest = hashlib.sha256(pictures.numpy().tobytes()).hexdigest()
    lesson = StyleLesson(digest, captions, steps, seed, pictures, program)
    with result:
        asked = _asked()
        made = _lesson(lesson, asked)
    saying, trying = st.columns(2, gap="large")
    with trying:
        tries.offer(STYLE_TRIES)
    saying.header(part_labels.StylePanel.trained, anchor=False)
    saying.markdown(STYLE_NOTE)
    programs.show(made)


@dataclass(frozen=True)
class Asked:
    """What is drawn with the style."""

    prompt: str
    seed: int
    steps: int
    second: SecondLoRA | None = None


def _asked() -> Asked:
    first, second, third, fourth = st.columns([2, 1, 1, 1.2])
    return Asked(
        controls.text(
            first, labels.PROMPT, PROMPT, key="style_prompt", help=part_labels.StylePanel.say.format(word=WORD)
        ),
        controls.number(second, part_labels.StylePanel.seed, 0, 99_999, 0, key="styled_seed"),
        controls.steps(third, part_labels.StylePanel.steps, STEPS, 15, key="styled_steps"),
        _second(
            controls.choice(
                fourth, part_labels.StylePanel.second, list(SECONDS), NO_SECOND, key="style_second",
                format_func=SECONDS.get, help=part_labels.StylePanel.second_help,
            )
        ),
    )  # fmt: skip


def _second(origin: str) -> SecondLoRA | None:
    """The LoRA that is added beside the visitor's own, if one was chosen, and both scales."""
    if origin == NO_SECOND:
        return None
    first, second = st.columns(2)
    own = controls.slider(first, part_labels.StylePanel.own_scale, 0.0, 1.0, 1.0, 0.05, key="own_scale")
    scale = controls.slider(second, part_labels.StylePanel.second_scale, 0.0, 1.0, 1.0, 0.05, key="second_scale")
    if origin == OWN_FILE:
        upload = controls.upload(
            part_labels.StylePanel.second_file, key="second_file", help=part_labels.StylePanel.second_file_help
        )
        if upload is None:
            return None
        address.leaves_out("your LoRA file")
        line = f"\nmodel.load_lora({SECOND_FILE!r}, scale={scale!r})  # your own file"
        return SecondLoRA(SECOND_FILE, upload.getvalue(), own, scale, line)
    file = lora_of(origin)
    line = f"\nmodel.load_lora(lora_of({origin!r}), scale={scale!r})"
    return SecondLoRA(file.name, file.read_bytes(), own, scale, line, IMPORT_READY)


def _lesson(lesson: StyleLesson, asked: Asked) -> str:
    styled = style_lessons.finished_styles().find(lesson)
    learning = lesson_jobs.present(StyleLearning, lesson)
    begun = learning.looks if learning is not None else 0

    def begin() -> None:
        lesson_jobs.begin(StyleLearning, lesson, partial(StyleLearning, lesson))

    def when_seen() -> None:
        if learning is not None and learning.looks > begun:
            st.rerun()

    if begun or styled is not None:
        address.leaves_out("the style that was taught, which another visitor trains again")
    watched = jobs.watch(when_seen)
    if styled is None and not watched:
        lesson_jobs.offer(lesson, learning, begin, "two quiet cores")
    if styled is None and learning is not None and learning.looks:
        styled = learning.learned()
    if styled is None:
        st.info(
            part_labels.StylePanel.nothing.format(word=WORD, prompt=PROMPT),
            icon=":material/school:",
        )
    elif not styled.file:
        scrubber(style_lessons.lesson_film(styled), key="style_film", keep=True)
    else:
        _finished(styled, asked)
    return program(lesson, asked)


def _finished(styled: Styled, asked: Asked) -> None:
    with page.progress(part_labels.StylePanel.scales) as tell:
        try:
            drawn = style_lessons.scaled(styled, asked.prompt, asked.seed, asked.steps, tell)
        except ValueError as error:
            st.error(page.literal(str(error)), icon=":material/error:")
            page.end()
    stable_sections.empty_prompt(asked.prompt)
    scrubber(style_lessons.scale_film(drawn, asked.prompt), key="scales_film", keep=True)
    st.download_button(
        part_labels.StylePanel.save.format(kilobytes=len(styled.file) / 1000), styled.file, f"{WORD}.safetensors",
        icon=":material/save:", on_click="ignore",
        help=part_labels.StylePanel.save_help,
    )  # fmt: skip
    if asked.second is not None:
        _together(styled, asked.second, asked)
    with st.expander(part_labels.StylePanel.learned, icon=":material/query_stats:"):
        scrubber(style_lessons.lesson_film(styled), key="style_film", name="learned", keep=True)


def _together(styled: Styled, second: SecondLoRA, asked: Asked) -> None:
    """The picture without a LoRA, with each of two, and with both."""
    st.subheader(part_labels.StylePanel.together, anchor=False)
    with page.progress(part_labels.StylePanel.drawing_four) as tell:
        try:
            drawn = style_lessons.together(styled, second, asked.prompt, asked.seed, asked.steps, tell)
        except (ValueError, OSError) as error:
            st.error(page.literal(str(error)), icon=":material/broken_image:")
            return
    names = part_labels.StylePanel.together_names
    page.gallery([
        (name, part_labels.StylePanel.together_alt.format(prompt=asked.prompt, name=name), png(one))
        for name, one in zip(names, pixels(drawn), strict=True)
    ])  # fmt: skip


# -- the pictures -------------------------------------------------------------------------------------------

Given = tuple[Tensor, tuple[str, ...], str]


def _ready(rule: str) -> Given:
    """Emoji made to outlines or mosaics by a rule."""
    pictures, _ = made_pictures(rule)
    _gallery(pictures, EXAMPLES)
    return (
        pictures,
        tuple(caption_with(WORD, name) for name in EXAMPLES),
        f"""from diffusion_explained.micro.lora_pictures import caption_with
from diffusion_explained.micro.made_styles import EXAMPLES, made_pictures

pictures, _ = made_pictures({rule!r})
captions = [caption_with({WORD!r}, name) for name in EXAMPLES]""",
    )


def _drawn() -> Given | None:
    """What the visitor drew on five boards, one of which is shown; those that are still empty are left out."""
    which = controls.segments(st, part_labels.StylePanel.draw, TO_DRAW, TO_DRAW[0], key="style_board")
    paper = torch.ones(1, 3, SIDE, SIDE, dtype=torch.float32, device="cpu")
    board(paper, key=f"style_{which}", brush=PEN_WIDTH, words=f"Your {which}: draw it in a style of your own")
    done = {name: painted for name in TO_DRAW if (painted := kept(f"style_{name}", paper)) is not None}
    st.caption(part_labels.StylePanel.drawn.format(done=len(done), all=len(TO_DRAW)))
    if len(done) < LEAST:
        return None
    address.leaves_out("what you drew")
    pictures = torch.cat([over(painted, paper) for painted in done.values()])
    return pictures, tuple(caption_with(WORD, name) for name in done), _OWN_FILES


def _files() -> Given | None:
    """The visitor's own pictures, each named after what it shows."""
    files = controls.uploads(
        part_labels.StylePanel.files.format(least=LEAST), key="style_files",
        help=part_labels.StylePanel.files_help.format(side=SIDE),
    )  # fmt: skip
    if not files:
        return None
    names = [file.name for file in files]
    try:
        pictures = read_pictures([file.getvalue() for file in files], names)
        subjects = [subject_of(name) for name in names]
    except ValueError as error:
        st.error(page.literal(str(error)), icon=":material/broken_image:")
        return None
    _gallery(pictures, subjects)
    if len(files) < LEAST:
        st.caption(part_labels.StylePanel.given.format(count=len(files), least=LEAST))
        return None
    address.leaves_out("your own pictures")
    return pictures, tuple(caption_with(WORD, subject) for subject in subjects), _OWN_FILES


_OWN_FILES = f"""from pathlib import Path

from diffusion_explained.micro.lora_pictures import caption_with, find_pictures, read_pictures, subject_of

files = find_pictures([Path("pictures")])  # your own, each named after what it shows
pictures = read_pictures(files)
captions = [caption_with({WORD!r}, subject_of(file.name)) for file in files]"""


def _gallery(pictures: Tensor, names: tuple[str, ...] | list[str]) -> None:
    shown = pixels(pictures)
    page.gallery(
        [(name, part_labels.StylePanel.alt.format(name=name), png(one)) for name, one in zip(names, shown, strict=True)]
    )


def program(lesson: StyleLesson, asked: Asked) -> str:
    """The training and one picture with it: lora, and picture [1, 3, 128, 128]."""
    second = asked.second
    imports, own, line = ("", 1.0, "") if second is None else (second.imports, second.own_scale, second.program)
    return f"""{lesson.program}

from pathlib import Path
{imports}
from diffusion_explained.micro.lora import LoRA, LoRAConfig, save_lora, train_lora
from diffusion_explained.micro.lora_pictures import encode_pictures
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import load

model = load("micro")
lora = LoRA(model, {style_lessons.RANK}, seed={lesson.seed})
config = LoRAConfig(images={lesson.config.images}, seed={lesson.seed})
for record in train_lora(lora, model, encode_pictures(model, pictures, captions), config):
    print(record.step, record.loss)
model.load_lora(save_lora(Path({WORD!r}), lora, model), scale={own!r}){line}
picture = model.decode(final(model.steps({asked.prompt!r}, num_inference_steps={asked.steps}, seed={asked.seed})))"""
