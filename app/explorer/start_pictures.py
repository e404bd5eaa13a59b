"""A picture that a run of Stable Diffusion starts from or paints in: the visitor's own, or one of CIFAR-10."""

import hashlib

import streamlit as st
from torch import Tensor

from diffusion_explained.data import load_image
from diffusion_explained.film import mosaic, pixels, png
from diffusion_explained.stable_diffusion.masks import load_mask, rectangle_mask
from explorer import page
from explorer.pictures import picture, real_images
from explorer.runs import class_names
from explorer.stable import Begun

NOISE, IMAGE, INPAINT = "pure noise", "a picture", "a picture with a hole"


def start_picture(height: int, width: int) -> Begun:
    """The controls of where a run starts. A file that cannot be used gets its words, and pure noise takes its place."""
    way = st.selectbox("Start from", (NOISE, IMAGE, INPAINT), key="start")
    if way == NOISE:
        return Begun()
    key, usual = ("strength", 0.6) if way == IMAGE else ("hole_strength", 1.0)
    what = "The share of the steps that are taken: 0 would keep the picture, 1 starts from noise alone."
    strength = st.slider("Strength", 0.0, 1.0, usual, 0.05, key=key, help=what)
    upload = st.file_uploader("Your own picture", type=None, key="start_upload", help="Scaled to the size above.")
    said: list[str] = []
    try:
        file = _own_picture() if upload is None else upload.getvalue()
        image, mask = load_image(file, (height, width), 3, say=said.append), None
        if way == INPAINT:
            mask = _mask(file, height, width)
        for sentence in said:
            st.caption(sentence)
        held = b"".join(tensor.numpy().tobytes() for tensor in (image, mask) if tensor is not None)
        return Begun(image, mask, strength, f"{strength} {hashlib.sha256(held).hexdigest()}")
    except ValueError as error:
        st.error(page.literal(f"This file cannot be used: {error}"), icon=":material/broken_image:")
        return Begun()


def _own_picture() -> bytes:
    names = class_names("cifar10")
    name = st.selectbox("or one of ours", names, index=names.index("horse"), key="start_class")
    real = "from CIFAR-10" if real_images("cifar10") else "made by our own network, not real"
    st.caption(f"32 × 32 pixels, {real}; enlarged.")
    return png(mosaic(pixels(picture("cifar10", names.index(name), 0))))


def _mask(file: bytes, height: int, width: int) -> Tensor:
    upload = st.file_uploader("A mask, white where to paint anew", type=None, key="mask_upload")
    if upload is not None:
        return load_mask(upload.getvalue(), file, height, width)
    across = st.slider("or a rectangle, from left to right (%)", 0, 100, (25, 75), key="across")
    down = st.slider("and from top to bottom (%)", 0, 100, (25, 75), key="down")
    return rectangle_mask(height, width, tuple(x / 100 for x in across), tuple(y / 100 for y in down))
