"""The pictures that a LoRA is trained on: a visitor's own, of any size, with captions; and the base's, of other things.

files = sorted(Path("drawings").glob("*.png"))
captions = [caption_with("zorb", subject_of(file.name)) for file in files]      # "cat, zorb style"
pictures = encode_pictures(model, read_pictures(files), captions)
prior = draw_prior(model, 32)                                                  # for DreamBooth's second loss
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusion_explained.checks import image_batch, typed_arguments, whole
from diffusion_explained.data import to_float
from diffusion_explained.data.pictures import FORMATS, File, decode, fitted
from diffusion_explained.messages import shortened
from diffusion_explained.micro.combinations import caption_of
from diffusion_explained.micro.encoded_scenes import EncodedScenes
from diffusion_explained.micro.networks import SIDE
from diffusion_explained.micro.subjects import load_subjects
from diffusion_explained.micro.tokens import MAX_LENGTH, encode
from diffusion_explained.micro.words import with_article
from diffusion_explained.noise import stream
from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import StableDiffusion
from diffusion_explained.weight_files import fingerprint

MOST_PICTURES = 100
SUFFIXES = {f".{name.lower()}" for name in FORMATS} | {".jpg"}
LONGEST_NAME = 30
PRIOR, PRIOR_STEPS, BATCH = 32, 8, 8  # pictures of the base, their sampling steps, and how many are drawn at once


@typed_arguments
def find_pictures(places: Sequence[Path]) -> list[Path]:
    """The picture files among the given ones and in the given folders, in the order given and then of their names.

    Raises FileNotFoundError for one that does not exist, ValueError for a folder without pictures.
    """
    found: list[Path] = []
    for place in places:
        inside = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES) if place.is_dir() else []
        if place.is_dir() and not inside:
            raise ValueError(f"The folder {place} holds no pictures ({', '.join(FORMATS)}). Give another one.")
        if not place.exists():
            raise FileNotFoundError(f"There is no picture {place}. Give its whole path.")
        found += inside or [place]
    return found


@typed_arguments
def read_pictures(files: Sequence[File], names: Sequence[str] | None = None) -> Tensor:
    """Read pictures as float32 [N, 3, 128, 128] in [-1, 1]: transparent parts white, padded with their edge's colour.

    files: paths, or the bytes of files; names: what to call each in messages, by default its file's name.

    Raises ValueError for no pictures or more than 100; and, before anything is trained on, one ValueError that names
    every file that is no whole picture, and what is wrong with it.
    """
    if not 1 <= len(files) <= MOST_PICTURES:
        raise ValueError(f"Give from 1 to {MOST_PICTURES} pictures, best 5 to 20; got {len(files)}.")
    if names is None:
        names = [Path(one).name if isinstance(one, str | PathLike) else str(i + 1) for i, one in enumerate(files)]
    read, broken = [], []
    for name, file in zip(names, files, strict=True):
        try:
            read.append(_read(file))
        except (ValueError, OSError) as error:
            broken.append(f"{name}: {error}")
    if broken:
        listed = " ".join(broken)
        raise ValueError(f"Replace or leave out {len(broken)} of the {len(files)} pictures. {listed}")
    return torch.stack(read)


def _read(file: File) -> Tensor:
    """One picture, float32 [3, 128, 128]."""
    picture = decode(file, SIDE, lambda sentence: None)
    image = picture.image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image).convert("RGB")
    pixels = np.asarray(image)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = (int(value) for value in np.median(edge, axis=0))
    image = fitted(image, picture.own, SIDE, SIDE, "pad", ground=(red, green, blue))
    return to_float(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])[0]


@typed_arguments
def check_name(name: str) -> str:
    """Return the word for a style or a thing. Raises ValueError unless it is 1 to 30 letters, digits, blanks or "-"."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9 -]*[A-Za-z0-9])?", name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"name must be 1 to {LONGEST_NAME} English letters, digits, blanks and hyphens; got {shortened(name)}."
        )
    return name.lower()


@typed_arguments
def subject_of(file: str) -> str:
    """What a picture shows, from its file's name: "fire truck" for fire_truck-2.png.

    Raises ValueError for a name without letters.
    """
    words = re.sub(r"[\W\d_]+", " ", Path(file).stem).split()
    if not words:
        raise ValueError(f"{file} does not say what it shows: name each file after its subject, cat.png.")
    return " ".join(words).lower()


@typed_arguments
def caption_with(name: str, subject: str | None = None, *, thing: bool = False) -> str:
    """A caption with the new word: of a style "cat, zorb style" or "zorb style"; of a thing "a zorb"."""
    if thing:
        return with_article(name)
    return f"{name} style" if subject is None else caption_of(subject, style=name)


@typed_arguments
def encode_pictures(model: StableDiffusion, images: Tensor, captions: Sequence[str]) -> EncodedScenes:
    """Encode pictures [N, 3, 128, 128] with a caption each to latents and tokens, to train on.

    Raises ValueError for captions that are not one per picture, or too long for the tokenizer.
    """
    if len(captions) != len(image_batch("images", images, 3)):
        raise ValueError(f"Give one caption per picture; got {len(captions)} captions for {len(images)} pictures.")
    return _encoded(model, torch.cat([model.encode(part) for part in images.split(BATCH)]), captions)


@typed_arguments
def draw_prior(model: StableDiffusion, count: int = PRIOR, seed: int = 0) -> EncodedScenes:
    """Draw pictures of random subjects with the model itself, in 8 steps: what it is not to forget.

    The seed gives the subjects and the noise (Ruiz et al. 2022, Sec. 4.2). Raises ValueError for a count below 1.
    """
    names = [name for group in load_subjects().values() for name in group]
    size = (whole("count", count, 1),)
    chosen = torch.randint(len(names), size, generator=stream(seed), device="cpu", dtype=torch.int64)
    captions, drawn = [names[i] for i in chosen.tolist()], []
    for i in range(0, count, BATCH):
        part = captions[i : i + BATCH]
        drawn.append(final(model.steps(part, num_inference_steps=PRIOR_STEPS, seed=range(i, i + len(part)))))
    return _encoded(model, torch.cat(drawn), captions)


def _encoded(model: StableDiffusion, latents: Tensor, captions: Sequence[str]) -> EncodedScenes:
    tokenizer = model.pipe.tokenizer
    for caption in captions:
        if len(tokenizer(caption)["input_ids"]) > MAX_LENGTH:
            raise ValueError(f"The caption {shortened(caption)} has more than {MAX_LENGTH} tokens: use fewer words.")
    tensors = {"latents": latents.to("cpu", torch.float16), "tokens": encode(tokenizer, captions).to(torch.int16)}
    empty = encode(tokenizer, [""])[0].to(torch.int16)
    return EncodedScenes(**tensors, empty=empty, made_from={"content": fingerprint("", tensors)})
