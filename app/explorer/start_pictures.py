"""The picture that a run of Stable Diffusion starts from, or inpaints: picked, one of ours, or the visitor's own.

The visitor can paint on it, brush a hole into it, or zoom out of it.
"""

import hashlib
from collections.abc import Sequence

import streamlit as st
import torch
from torch import Tensor

from diffusion_explained.film import mosaic, pixels, png
from diffusion_explained.stable_diffusion.inpainting import SAMPLER as REPAINT_SAMPLER
from diffusion_explained.stable_diffusion.masks import rectangle_mask
from diffusion_explained.stable_diffusion.outpainting import zoomed_out
from explorer import address, controls, emoji, labels, page, part_labels
from explorer.board import board, over
from explorer.pictures import picture, real_images
from explorer.runs import class_names
from explorer.stable import RunStart
from explorer.uploads import own_image, own_mask

NOISE, IMAGE, INPAINT, OUTPAINT = "pure noise", "a picture", "a picture with a hole", "a picture, zoomed out"
PICKED, EMOJI, CIFAR10, PAPER, FILE = "the picked one", "an emoji", "a CIFAR-10 picture", "white paper", "my own file"
BRUSH, RECTANGLE, MASK_FILE = "by brush", "a rectangle", "from a file"


def start_picture(height: int, width: int, sources: Sequence[str], picked: Tensor | None = None) -> RunStart:
    """The controls of where a run starts. If a file cannot be used, say why, and start from pure noise.

    sources: the pictures to offer, the default first; picked: [1, 3, H, W] of an earlier run, offered before them.
    """
    way = controls.choice(st, part_labels.StartPictures.start, (NOISE, IMAGE, INPAINT, OUTPAINT), NOISE, key="start")
    if way == NOISE:
        return RunStart()
    offered = [*([PICKED] if picked is not None else []), *sources]
    source = controls.choice(st, part_labels.StartPictures.which, offered, offered[0], key="source")
    what = "file"
    try:
        file, program = _file(source, picked)
        if file is None:
            return RunStart()
        (image, said), mask = own_image(file, (height, width), 3), None
        for sentence in said:
            st.caption(sentence)
        program += f"\nimage = load_image(file, {(height, width)}, 3)"
        if way == INPAINT:
            what = "mask"
            mask, of_mask = _mask(file, image)
            program += f"\n{of_mask}"
        elif way == OUTPAINT:
            zoom = controls.slider(
                st,
                part_labels.StartPictures.zoom,
                1.5,
                4.0,
                2.0,
                0.5,
                key="zoom",
                help=part_labels.StartPictures.zoom_help,
            )
            image, mask = zoomed_out(image, zoom)
            program += f"\n\nfrom {zoomed_out.__module__} import zoomed_out\n\nimage, mask = zoomed_out(image, {zoom})"
        else:
            painted = board(image, key="paint")
            if painted is not None:
                image = over(painted, image)
                address.leaves_out("what you painted")
                program += "  # without what you painted on it"
    except ValueError as error:
        words = f"This {what} cannot be used, so the run starts from pure noise: {error}"
        st.error(page.literal(words), icon=":material/broken_image:")
        return RunStart()
    key, usual = ("strength", 0.6) if way == IMAGE else ("hole_strength", 1.0)
    what = "The share of the steps that run: 0 would keep the picture, 1 starts from pure noise."
    strength = controls.slider(st, part_labels.StartPictures.strength, 0.0, 1.0, usual, 0.05, key=key, help=what)
    held = b"".join(tensor.numpy().tobytes() for tensor in (image, mask) if tensor is not None)
    return RunStart(image, mask, strength, f"{strength} {hashlib.sha256(held).hexdigest()}", program)


def resamplings(start: RunStart, sampler: str) -> int | None:
    """The control of RePaint, for a start with a hole and the sampler whose steps it takes; None for replacement."""
    if start.mask is None:
        return None
    if sampler != REPAINT_SAMPLER:
        st.caption(part_labels.StartPictures.resampling)
        return None
    help = (
        "0 restores the known part at every level. RePaint takes each step so often, so that the new part can fit the "
        "known one; a run then takes that many times as long."
    )
    return controls.slider(st, part_labels.StartPictures.resamplings, 0, 10, 0, 1, key="resamplings", help=help) or None


OF_MASKS = "As large as the picture, or of its shape. Black and transparent parts are kept."
LOAD = "from diffusion_explained.data import load_image\n"
MAKE = f"import torch\n\n{LOAD}from diffusion_explained.film import mosaic, pixels, png\n"


def _file(source: str, picked: Tensor | None) -> tuple[bytes | None, str]:
    """A source's picture as the bytes of a file (None until the visitor chooses one), and the program that makes it."""
    if source == FILE:
        upload = controls.upload(
            part_labels.StartPictures.upload, key="start_upload", help=part_labels.StartPictures.scaled
        )
        if upload is None:
            st.info(part_labels.StartPictures.choose, icon=":material/touch_app:")
            return None, ""
        address.leaves_out("your own picture")
        return upload.getvalue(), f'{LOAD}\nfile = "picture.png"  # your own'
    if source == PICKED:
        address.leaves_out("the picture that you picked")
        return png(pixels(picked)[0]), f'{LOAD}\nfile = "seed.png"  # the picture that you picked, saved'
    if source == PAPER:
        return png(pixels(torch.ones(1, 3, 8, 8))[0]), f"{MAKE}\nfile = png(pixels(torch.ones(1, 3, 8, 8))[0])"
    if source == EMOJI:
        name, style = emoji.pick(part_labels.StartPictures.emoji, "start_emoji")
        program = f"""{MAKE}from diffusion_explained.micro.emoji import STYLES, load_emoji_sample
from diffusion_explained.micro.reconstruction import on_white

emoji = load_emoji_sample()
chosen = (emoji.subject == emoji.names.index({name!r})) & (emoji.style == STYLES.index({style!r}))
file = png(pixels(on_white(emoji.images[chosen][:1]))[0])"""
        return png(pixels(emoji.emoji(name, style))[0]), program
    names = class_names("cifar10")
    name = controls.choice(st, labels.CLASS, names, "horse", key="start_class")
    real = "from CIFAR-10" if real_images("cifar10") else "made by our own network, not real"
    st.caption(part_labels.StartPictures.real.format(real=real))
    load, call = (
        ("load_dataset", 'load_dataset("cifar10", "train")')
        if real_images("cifar10")
        else ("made_by_model", 'made_by_model("cifar10")')
    )
    program = f"""{MAKE}from diffusion_explained.data import {load}

data = {call}
index = (data.labels == {names.index(name)}).nonzero().flatten()[:1]
file = png(mosaic(pixels(data.batch(index)[0])))"""
    return png(mosaic(pixels(picture("cifar10", names.index(name), 0)))), program


def _mask(file: bytes, image: Tensor) -> tuple[Tensor, str]:
    """The hole [H, W], and the program that makes it."""
    height, width = image.shape[-2:]
    way = controls.choice(st, part_labels.StartPictures.hole, (BRUSH, RECTANGLE, MASK_FILE), BRUSH, key="hole")
    if way == BRUSH:
        painted = board(image, key="brush", hole=True)
        if painted is None:
            st.caption(part_labels.StartPictures.brush)
        else:
            address.leaves_out("what you brushed")
        if painted is None:
            return torch.ones(height, width), f"import torch\n\nmask = torch.ones({height}, {width})"
        return painted[3], f"mask = torch.ones({height}, {width})  # in place of what you brushed"
    if way == MASK_FILE:
        upload = controls.upload(part_labels.StartPictures.mask, key="mask_upload", help=OF_MASKS)
        if upload is not None:
            address.leaves_out("your own mask")
            invert = controls.switch(st, part_labels.StartPictures.invert, key="mask_invert")
            mask, said = own_mask(upload.getvalue(), file, height, width, invert=invert)
            for sentence in said:
                st.caption(sentence)
            shown = png(pixels(2 * (mask[None, None] >= 0.5).float() - 1)[0])
            page.gallery([(part_labels.StartPictures.mask_title, part_labels.StartPictures.mask_alt, shown)])
            program = (
                "from diffusion_explained.stable_diffusion.masks import load_mask\n\n"
                f'mask = load_mask("mask.png", file, {height}, {width}, invert={invert!r})  # your own'
            )
            return mask, program
        st.caption(part_labels.StartPictures.rectangle)
        return _rectangle(height, width, (0.25, 0.75), (0.25, 0.75))
    across = controls.span(st, part_labels.StartPictures.across, 0, 100, (25, 75), key="across")
    down = controls.span(st, part_labels.StartPictures.down, 0, 100, (25, 75), key="down")
    return _rectangle(height, width, (across[0] / 100, across[1] / 100), (down[0] / 100, down[1] / 100))


def _rectangle(height: int, width: int, across: tuple[float, float], down: tuple[float, float]) -> tuple[Tensor, str]:
    program = (
        "from diffusion_explained.stable_diffusion.masks import rectangle_mask\n\n"
        f"mask = rectangle_mask({height}, {width}, {across}, {down})"
    )
    return rectangle_mask(height, width, across, down), program
