"""Sound: ten spoken words in many synthetic voices, as log-mel spectrograms, and the network that speaks them.

model = load_beyond("sound")
wave = to_wave(model.sample([7], guidance_scale=2.0))           # a voice says "seven"; spectrograms.write_wav keeps it
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusion_explained.beyond.kinds import Data, Kind
from diffusion_explained.beyond.spectrograms import BANDS, FLOOR, FRAMES, log_mel, to_wave, wav_bytes
from diffusion_explained.checks import typed_arguments
from diffusion_explained.data import to_float
from diffusion_explained.messages import shortened, unknown_name
from diffusion_explained.models import Classifier
from diffusion_explained.pretrained import WEIGHTS, load_classifier
from diffusion_explained.weight_files import read_tensors

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPOKEN_WORDS = Path(__file__).parents[1] / "data" / "spoken_words.safetensors"
PARTS = ("train", "judge", "test")  # whose voices differ: for the network, for the classifier, for neither of them
CLASSIFIER = WEIGHTS / "beyond" / "sound_classifier.safetensors"
MOST_FRAMES = 6  # by which a training clip is moved in time, 0.1 s


@dataclass(frozen=True)
class SpokenWords:
    """Spectrograms uint8 [N, 1, 64, 64] (0..255 stands for -1..1), their words as labels [N], and their voices."""

    spectrograms: Tensor
    labels: Tensor
    voices: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@typed_arguments
@cache
def load_spoken_words(part: str = "train") -> SpokenWords:
    """The bundled spectrograms of ten words, the words in turn; each part has voices of its own.

    part: "train" for the network, "judge" for the classifier that measures its samples, "test" for neither.
    Raises ValueError for another part, OSError for a damaged file. recipes/spoken_words.py made the file.
    """
    if part not in PARTS:
        raise unknown_name("part of the spoken words", part, PARTS)
    tensors, texts = read_tensors(SPOKEN_WORDS, "data file")
    try:
        labels = tensors[f"{part}_labels"].to(torch.int64)
        voices = tuple(texts[f"{part}_voices"].split(","))
        sheet = Image.open(io.BytesIO(tensors[f"{part}_spectrograms"].numpy().tobytes())).convert("L")
        spectrograms = tiles(torch.from_numpy(np.asarray(sheet).copy()))[: len(labels)]
    except (KeyError, ValueError, OSError, RuntimeError) as error:
        raise OSError(f"{SPOKEN_WORDS} is damaged: {shortened(error)}. Install the package again.") from error
    return SpokenWords(spectrograms, labels, voices)


def tiles(sheet: Tensor) -> Tensor:
    """The spectrograms [N, 1, 64, 64] of a sheet uint8 [64 rows, 64 columns], cut row by row."""
    rows = sheet.unflatten(0, (-1, BANDS)).unflatten(2, (-1, FRAMES))  # [rows, 64, columns, 64]
    return rows.permute(0, 2, 1, 3).reshape(-1, 1, BANDS, FRAMES)


def sample_data(n: int, generator: torch.Generator, split: str) -> Data:
    """n spectrograms uint8 [n, 1, 64, 64], the words in turn; each training clip is moved in time by up to 0.1 s."""
    words = load_spoken_words(split)
    labels = torch.arange(n, device="cpu", dtype=torch.int64) % len(WORDS)
    takes = torch.randint(len(words) // len(WORDS), (n,), generator=generator, device="cpu", dtype=torch.int64)
    chosen = words.spectrograms[takes * len(WORDS) + labels]
    if split == "train":
        moves = torch.randint(-MOST_FRAMES, MOST_FRAMES + 1, (n,), generator=generator, device="cpu", dtype=torch.int64)
        chosen = moved(chosen, moves)
    return Data(chosen, labels)


def moved(spectrograms: Tensor, frames: Tensor) -> Tensor:
    """Spectrograms uint8 [N, 1, 64, 64], each moved in time by so many frames [N]; silence follows after it."""
    source = torch.arange(FRAMES, device="cpu", dtype=torch.int64) - frames[:, None]  # [N, 64]
    inside = (source >= 0) & (source < FRAMES)
    rolled = spectrograms.gather(3, source.clamp(0, FRAMES - 1)[:, None, None].expand_as(spectrograms))
    return torch.where(inside[:, None, None], rolled, 0)


@cache
def classifier() -> Classifier:
    """The classifier that names words, trained by recipes/sound_classifier.py on voices of its own."""
    return load_classifier(CLASSIFIER)


@torch.no_grad()
@typed_arguments
def named(spectrograms: Tensor) -> Tensor:
    """The word [N] that the classifier hears in each of the spectrograms [N, 1, 64, 64], once they are made audible.

    It hears the wave that Griffin-Lim makes of a spectrogram, not the spectrogram itself.
    """
    heard = (classifier()(log_mel(to_wave(part))).argmax(dim=1) for part in spectrograms.split(100))
    return torch.cat(list(heard))


def measure(data: Data, reference: Data) -> dict[str, float]:
    """The share of spectrograms [N, 1, 64, 64] named right, and how far they are from the nearest training clip.

    named: by the classifier, after Griffin-Lim. nearest: the root of the mean squared difference in decibels to the
    nearest clip of `load_spoken_words("train")`, on average; copies would have 0.
    """
    train = to_float(load_spoken_words("train").spectrograms).flatten(1)
    distance = torch.cdist(data.x_0.flatten(1), train).amin(dim=1) / (BANDS * FRAMES) ** 0.5
    right = (named(data.x_0) == data.labels).float().mean()
    return {"named": float(right), "nearest": float(distance.mean()) * FLOOR / 2}


def chance(data: Data, generator: torch.Generator) -> Data:
    """The same spectrograms [N, 1, 64, 64] with the labels [N] of a shuffled list."""
    return Data(
        data.x_0, data.labels[torch.randperm(len(data.labels), generator=generator, device="cpu", dtype=torch.int64)]
    )


def to_wav(x_0: Tensor, names: Sequence[str]) -> bytes:
    """A WAV file of spectrograms [B, 1, 64, 64], one second after the other."""
    return wav_bytes(to_wave(x_0).flatten())


SOUND = Kind(
    name="sound",
    shape=(1, BANDS, FRAMES),
    class_names=WORDS,
    sample_data=sample_data,
    train_size=40_000,
    measure=measure,
    chance=chance,
    sampling={"num_inference_steps": 20, "sampler": "euler"},
    writers={".wav": to_wav},
)
