"""A set of emoji pictures with their names, the pictures that are held out, and the file format.

The file holds one PNG per picture (WebP in the sample): both are lossless, and need only Pillow.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from diffusion_explained.checks import typed_arguments
from diffusion_explained.data.hub import DamagedDataError
from diffusion_explained.files import atomic_path
from diffusion_explained.weight_files import read_tensors

STYLES = ("fluent", "noto", "twemoji")
SIZE = 128  # pixels per side
HELD_OUT = 0.08  # the share of all (subject, style) pairs that training never sees


@dataclass(frozen=True)
class EmojiSet:
    """Pictures of subjects in styles. N pictures, M subjects; most subjects come in all three styles.

    images:   uint8 [N, 4, 128, 128], RGBA with straight alpha; the longer side of the drawing is 112 pixels.
    subject:  int64 [N], index into names.
    style:    int64 [N], index into STYLES.
    names:    one per subject, lower-case ASCII: "red heart".
    keywords: other words for a subject, from emojibase-data and words.py: ("love heart",).
    groups:   the group of each subject: "smileys", "people", "animals", "food", "travel", "activities", "objects",
              "symbols" or "flags".
    """

    images: Tensor
    subject: Tensor
    style: Tensor
    names: tuple[str, ...]
    keywords: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def held_out(self) -> Tensor:
        """bool [N]: the pictures that no training may use; their subject always remains in its other styles.

        At most one style per subject is held out, chosen by a hash of its name, so the choice is the same in every set.
        """
        styles_of = torch.bincount(self.subject, minlength=len(self.names))
        chosen = torch.tensor([held_out_style(name) for name in self.names], dtype=torch.int64, device="cpu")
        return (chosen[self.subject] == self.style) & (styles_of[self.subject] == len(STYLES))


def hashed(text: str) -> float:
    """A number in [0, 1) that depends only on the text: the same on every machine and in every version of Python."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def held_out_style(name: str) -> int:
    """The style (index into STYLES) in which a subject is held out, or -1 for the three quarters without one."""
    return int(hashed(f"style of {name}") / HELD_OUT) if hashed(f"style of {name}") < HELD_OUT * len(STYLES) else -1


@typed_arguments
def write_emoji(path: Path, emoji: EmojiSet, image_format: str = "PNG") -> None:
    """Write a set to one file, losslessly compressed as "PNG" or "WEBP"; the file appears whole or not at all."""
    files = [encode_image(image, image_format) for image in emoji.images]
    tables = {key: json.dumps(getattr(emoji, key)) for key in ("names", "keywords", "groups")}
    arrays = {
        "files": torch.from_numpy(np.frombuffer(b"".join(files), np.uint8).copy()),
        "ends": torch.tensor([len(file) for file in files], dtype=torch.int64, device="cpu").cumsum(0),
        "subject": emoji.subject,
        "style": emoji.style,
    }
    with atomic_path(path) as part:
        save_file(arrays, part, metadata={**tables, "sha256": checksum(arrays, tables)})


@typed_arguments
def read_emoji(path: Path, what_to_do: str) -> EmojiSet:
    """Read and decode a file that `write_emoji` wrote; a DamagedDataError names the file and says what to do."""
    try:
        stored, metadata = read_tensors(path, "set of emoji")
        arrays = {key: stored[key] for key in ("files", "ends", "subject", "style")}
        tables = {key: metadata[key] for key in ("names", "keywords", "groups")}
        if checksum(arrays, tables) != metadata["sha256"]:
            raise DamagedDataError("its content is not what was written (the checksum differs)")
        content, ends = arrays["files"].numpy().tobytes(), [0, *arrays["ends"].tolist()]
        images = torch.empty(len(ends) - 1, 4, SIZE, SIZE, dtype=torch.uint8, device="cpu")
        for i, (start, end) in enumerate(pairwise(ends)):
            images[i] = decode_image(content[start:end])
    except Exception as error:  # safetensors, json and Pillow each raise their own errors for a damaged file
        raise DamagedDataError(f"{path} is damaged: {error}. {what_to_do}") from error
    return EmojiSet(
        images,
        arrays["subject"],
        arrays["style"],
        tuple(json.loads(tables["names"])),
        tuple(tuple(words) for words in json.loads(tables["keywords"])),
        tuple(json.loads(tables["groups"])),
    )


def checksum(arrays: dict[str, Tensor], tables: dict[str, str]) -> str:
    """SHA-256 over everything in the file, in the order of the keys. The arrays may have any shape, [...]."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(arrays[key].numpy().data)
    for key in sorted(tables):
        digest.update(tables[key].encode())
    return digest.hexdigest()


def encode_image(image: Tensor, image_format: str) -> bytes:
    """One picture, uint8 [4, H, W], as the bytes of a PNG or a WebP without loss."""
    settings: dict[str, dict[str, Any]] = {
        "PNG": {"optimize": True},
        "WEBP": {"lossless": True, "exact": True, "quality": 100, "method": 6},
    }
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, image_format, **settings[image_format])
    return buffer.getvalue()


def decode_image(file: bytes) -> Tensor:
    """The picture in a PNG or WebP, uint8 [4, H, W]."""
    with Image.open(io.BytesIO(file), formats=("PNG", "WEBP")) as image:
        return torch.from_numpy(np.asarray(image.convert("RGBA")).copy()).permute(2, 0, 1)
