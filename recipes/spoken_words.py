"""Write the spoken words that ship with the package: ten words in many synthetic voices, as log-mel spectrograms.

    apt-get install espeak-ng        # version 1.51 of Debian 12 made the bundled file
    python recipes/spoken_words.py

Each clip has an accent, a voice, a pitch and a speed of its own, drawn by a seed. No voice is in two parts: the network
trains on one part, the classifier that measures its samples on another, and the third belongs to neither.
The sheets of spectrograms are lossy WebP, about 500 bytes per spectrogram. It takes six minutes.
"""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from diffusion_explained.beyond.sound import PARTS, SPOKEN_WORDS, WORDS
from diffusion_explained.beyond.spectrograms import BANDS, FRAMES, SAMPLES, log_mel
from diffusion_explained.data import to_uint8
from diffusion_explained.files import atomic_path, check_file

ACCENTS = "en-us en-us en-gb en-gb-x-rp en-gb-scotland en-029 en-us-nyc en-gb-x-gbclan"
VOICES = {
    "train": (
        "m1 m2 m3 m4 m6 m7 f1 f2 f4 klatt klatt3 Alex Alicia Andrea Andy Annie Denis Gene Henrique Hugo Jacky Lee "
        "Mario Michael Nguyen RicishayMax Storm adam anika antonio belinda benjamin boris caleb edward iven iven3 john "
        "linda marcelo max michel norbert paul pedro quincy rob sandro shelby steph travis zac"
    ),
    "judge": ("m5 f3 klatt2 Diogo Gene2 Marco RicishayMax2 aunty david ed gustave iven2 miguel pablo steph2 victor"),
    "test": "m8 f5 klatt4 Mike RicishayMax3 edward2 iven4 robert steph3 grandma",
}
CLIPS = {"train": 4000, "judge": 800, "test": 400}  # of each part; the words take turns
COLUMNS = 50  # spectrograms per row of a sheet
QUALITY = 85  # of its WebP: 0.3 dB of error on average


def speak(word: str, voice: str, pitch: int, speed: int) -> Tensor:
    """The samples [N] of a spoken word at 8,000 per second, without the silence around it, at most 0.9 large."""
    command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "--stdout", word]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    samples = np.frombuffer(content[44:], "<i2").astype(np.float64)  # after the WAV header
    samples = np.pad(samples, (0, -len(samples) % 441))  # 22,050 : 8,000 is 441 : 160
    count = len(samples) // 441 * 160
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]  # frequencies up to 4,000 Hz
    wave = np.fft.irfft(spectrum, count)
    loud = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max())
    wave = wave[max(0, loud[0] - 80) : loud[-1] + 240]
    return torch.from_numpy(0.9 * wave / np.abs(wave).max()).float()


def clip(word: str, voices: list[str], draw: np.random.Generator) -> tuple[Tensor, str]:
    """One clip [8064] of a word, somewhere near its middle, and the name of its voice."""
    while True:
        voice, accent = draw.choice(voices), draw.choice(ACCENTS.split())
        wave = speak(word, f"{accent}+{voice}", int(draw.integers(25, 76)), int(draw.integers(105, 181)))
        if len(wave) <= SAMPLES:
            break
    start = int((SAMPLES - len(wave)) * draw.uniform(0.3, 0.7))
    return torch.nn.functional.pad(wave, (start, SAMPLES - len(wave) - start)), voice


def sheet(spectrograms: Tensor) -> bytes:
    """Spectrograms uint8 [N, 1, 64, 64] as one WebP picture, row by row; the last row ends in black."""
    missing = -len(spectrograms) % COLUMNS
    filled = torch.cat([spectrograms, spectrograms.new_zeros(missing, 1, BANDS, FRAMES)])
    rows = filled.unflatten(0, (-1, COLUMNS))[:, :, 0].permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    content = io.BytesIO()
    Image.fromarray(rows.numpy(), "L").save(content, "WEBP", quality=QUALITY, method=6)
    return content.getvalue()


def main() -> None:
    """Synthesise all parts and write the file."""
    tensors, texts = {}, {}
    for seed, part in enumerate(PARTS):
        draw = np.random.default_rng(seed)
        labels = torch.arange(CLIPS[part]) % len(WORDS)
        clips, voices = zip(*(clip(WORDS[label], VOICES[part].split(), draw) for label in labels), strict=True)
        drawn = to_uint8(log_mel(torch.stack(clips)))
        content = sheet(drawn)
        print(f"{part}: {len(clips)} clips, {len(content):,} bytes", flush=True)
        tensors[f"{part}_spectrograms"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        tensors[f"{part}_labels"] = labels.to(torch.uint8)
        texts[f"{part}_voices"] = ",".join(voices)
    with atomic_path(SPOKEN_WORDS) as part_file:
        save_file(tensors, part_file, metadata=texts)
    print(f"{SPOKEN_WORDS}: {SPOKEN_WORDS.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        check_file(SPOKEN_WORDS, "")
        main()
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing: apt-get install espeak-ng")
    except OSError as error:
        sys.exit(str(error))
