"""Log-mel spectrograms: a second of sound as a picture [1, 64, 64] that the ordinary networks can draw, and back.

    spectrogram = log_mel(wave)                    # [B, 8064] -> [B, 1, 64, 64] in [-1, 1]
    wave = to_wave(spectrogram)                    # the phases are lost, and Griffin-Lim finds some that fit
    write_wav(Path("seven.wav"), wave[0])

A row of a spectrogram is a band of frequencies, the lowest first; a column is a moment, 16 ms after the one before it.
"""

from __future__ import annotations

import io
import math
import wave as wave_files
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.checks import check_data, named_options, typed_arguments, whole
from diffusion_explained.files import atomic_path, read_bytes
from diffusion_explained.noise import stream

SAMPLE_RATE = 8000  # samples per second: the telephone's, which carries frequencies up to 4,000 Hz
WINDOW, HOP = 512, 128  # samples per Fourier transform (64 ms), and from one to the next (16 ms)
BANDS = FRAMES = 64
SAMPLES = (FRAMES - 1) * HOP  # 8,064 samples, 1.008 s
MOST_BYTES = 2**20  # of a sound file that is read: a minute, of which more than a second is refused
FLOOR = 70.0  # decibels below full scale at which a spectrogram is black, -1; white, 1, is full scale


@cache
def mel_filters() -> Tensor:
    """Triangular filters [64, 257], equally wide on the mel scale from 0 to 4,000 Hz: about as finely as we hear.

        mel(f) = 2595 log10(1 + f / 700)           (O'Shaughnessy 1987, "Speech Communication")

    Each filter's weights sum to 1.
    """
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    mels = torch.linspace(0, top, BANDS + 2, dtype=torch.float64, device="cpu")
    edges = 700 * (10 ** (mels / 2595) - 1)  # [66] Hz
    bins = torch.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1, dtype=torch.float64, device="cpu")
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    filters = torch.minimum(rising, falling).clamp(min=0)
    return (filters / filters.sum(dim=1, keepdim=True)).float()


def short_time_fourier(wave: Tensor) -> Tensor:
    """The short-time Fourier transform [B, 257, 64], complex, of waves [B, 8064]; a full-scale sine has magnitude 1."""
    window = torch.hann_window(WINDOW, device=wave.device, dtype=wave.dtype)
    return torch.stft(wave, WINDOW, HOP, window=window, return_complex=True) * (2 / window.sum())


def inverse_fourier(transform: Tensor) -> Tensor:
    """The waves [B, 8064] whose short-time Fourier transform is nearest to [B, 257, 64], by least squares."""
    window = torch.hann_window(WINDOW, device=transform.device, dtype=torch.float32)
    return torch.istft(transform * (window.sum() / 2), WINDOW, HOP, window=window, length=SAMPLES)


@typed_arguments
def log_mel(wave: Tensor) -> Tensor:
    """The log-mel spectrograms [B, 1, 64, 64] in [-1, 1] of waves [B, 8064] in [-1, 1] at 8,000 samples per second.

        1 + 2 * (20 log10 of the filtered magnitudes) / 70,    clipped to [-1, 1]

    Raises ValueError for another length, and for NaN.
    """
    if check_data("wave", wave).ndim != 2 or wave.shape[1] != SAMPLES:
        raise ValueError(f"wave must be [B, {SAMPLES}], 1.008 s at {SAMPLE_RATE} Hz; got {list(wave.shape)}.")
    magnitude = mel_filters().to(wave.device) @ short_time_fourier(wave.float()).abs()
    decibels = 20 * magnitude.clamp(min=1e-6).log10()
    return (1 + 2 * decibels / FLOOR).clamp(-1, 1)[:, None]


@typed_arguments
def to_magnitude(spectrogram: Tensor, iterations: int = 50) -> Tensor:
    """Magnitudes [B, 257, 64] whose log-mel spectrogram is [B, 1, 64, 64]: 64 bands do not determine 257 frequencies.

        S <- S * (M^T m) / (M^T M S)               (Lee & Seung 2001, Eq. 4, with the filters M held fixed)

    The update keeps S positive and lowers |M S - m|^2. Raises ValueError for another shape, and for NaN.
    """
    if check_data("spectrogram", spectrogram).shape[1:] != (1, BANDS, FRAMES):
        raise ValueError(f"spectrogram must be [B, 1, {BANDS}, {FRAMES}]; got {list(spectrogram.shape)}.")
    decibels = FLOOR / 2 * (spectrogram[:, 0].float().clamp(-1, 1) - 1)
    mel = torch.where(decibels > -FLOOR, 10 ** (decibels / 20), 0)  # black is silence
    filters = mel_filters().to(mel.device)
    back = filters.T @ mel
    magnitude = back.clone()
    for _ in range(iterations):
        magnitude = magnitude * back / (filters.T @ (filters @ magnitude)).clamp(min=1e-12)
    return magnitude


@named_options
@typed_arguments
def griffin_lim(magnitude: Tensor, *, iterations: int = 60, momentum: float = 0.99, seed: int = 0) -> Tensor:
    """Waves [B, 8064] whose short-time Fourier transform has nearly these magnitudes [B, 257, 64].

        c_n = STFT(ISTFT(magnitude * exp(i angle(t_(n-1)))));   t_n = c_n + momentum * (c_n - c_(n-1))

    Griffin & Lim 1984 with momentum = 0; Perraudin, Balazs & Sondergaard 2013, "A fast Griffin-Lim algorithm".
    Overlapping windows must agree, so few phases fit; the iterations start from random ones. Raises ValueError for NaN.
    """
    check_data("magnitude", magnitude)
    whole("iterations", iterations, 0)
    phases = 2 * math.pi * torch.rand(magnitude.shape, generator=stream(seed), device="cpu", dtype=torch.float32)
    transform = magnitude * torch.exp(1j * phases.to(magnitude.device))
    before = torch.zeros_like(transform)
    for _ in range(iterations):
        consistent = short_time_fourier(inverse_fourier(transform))
        ahead = consistent + momentum * (consistent - before)
        before, transform = consistent, magnitude * ahead / ahead.abs().clamp(min=1e-12)
    return inverse_fourier(transform)


@typed_arguments
def to_wave(spectrogram: Tensor, seed: int = 0) -> Tensor:
    """Waves [B, 8064] that sound like log-mel spectrograms [B, 1, 64, 64], such as a sampler's x_t or predicted x_0.

    Raises ValueError for another shape, and for NaN.
    """
    return griffin_lim(to_magnitude(spectrogram), seed=seed)


@typed_arguments
def wav_bytes(wave: Tensor) -> bytes:
    """A WAV file, 16 bits per sample at 8,000 samples per second, of a wave [N]; larger values than 1 are clipped.

    Raises ValueError for another shape, and for NaN.
    """
    if check_data("wave", wave).ndim != 1 or len(wave) == 0:
        raise ValueError(f"wave must be [N], N of 1 or more; got {list(wave.shape)}: give one wave of the batch.")
    numbers = (wave.clamp(-1, 1) * 32767).round().to(torch.int16).cpu().numpy().astype("<i2")
    content = io.BytesIO()
    with wave_files.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(numbers.tobytes())
    return content.getvalue()


@typed_arguments
def write_wav(path: Path, wave: Tensor) -> None:
    """Write a wave [N] as a WAV file, whole or not at all; errors as for `wav_bytes` and `files.atomic_path`."""
    content = wav_bytes(wave)
    with atomic_path(path) as part:
        part.write_bytes(content)


@typed_arguments
def read_wav(path: Path) -> Tensor:
    """The wave [8064] of a WAV file: one channel, 16 bits, 8,000 samples per second; shorter ones end in silence.

    Raises ValueError, naming the file, for another rate, format or length; OSError for a file that cannot be read.
    """
    try:
        with wave_files.open(io.BytesIO(read_bytes(path, "sound file", MOST_BYTES)), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            content = file.readframes(count)
    except (wave_files.Error, EOFError) as error:
        raise ValueError(f"{path} is no WAV file of plain samples ({error}). Convert it to one.") from error
    if (rate, channels, width) != (SAMPLE_RATE, 1, 2):
        raise ValueError(
            f"{path} has {rate:,} samples per second, {8 * width} bits each, on {channels} channel(s); this network "
            f"hears {SAMPLE_RATE:,} of 16 bits on one. Convert it: ffmpeg -i IN -ar {SAMPLE_RATE} -ac 1 OUT.wav"
        )
    samples = torch.from_numpy(np.frombuffer(content, "<i2").astype(np.float32)) / 32768
    if not 0 < len(samples) <= SAMPLES:
        raise ValueError(
            f"{path} lasts {len(samples) / rate:.3f} s; a spectrogram holds up to {SAMPLES / rate:.3f} s, and not "
            "nothing. Cut it."
        )
    return torch.nn.functional.pad(samples, (0, SAMPLES - len(samples)))
