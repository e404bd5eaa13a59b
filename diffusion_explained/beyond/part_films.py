"""Runs whose states are no pictures, as films for the scrubber: clips play, sounds are heard, clouds and atoms turn.

steps = list(model.steps([3], num_inference_steps=20, seed=0))
parts = [cloud_part("xₜ", [step.x_t for step in steps]), cloud_part("predicted x₀", [step.pred.x_0 for step in steps])]
film = PartFilm(tuple(parts), tuple(caption(step, len(steps)) for step in steps))

Each part has a class of its kind in parts.js, which draws it in the browser. Its words say what is seen or heard at
each frame, for all readers. (`beyond_films` draws the same runs as pictures, for pages that run no script.)
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.beyond.bonds import (
    CONTACT,
    ELEMENTS,
    MOST_ATOMS,
    find_bonds,
    is_valid,
    shape_of,
    to_molecules,
    with_double_bonds,
)
from diffusion_explained.beyond.sound import WORDS, classifier
from diffusion_explained.beyond.spectrograms import BANDS, FRAMES, SAMPLE_RATE, SAMPLES, log_mel, to_wave, wav_bytes
from diffusion_explained.beyond.video import cut_out
from diffusion_explained.checks import all_of, check_finite, check_some, float_data, typed_arguments, whole
from diffusion_explained.discrete import Alphabet
from diffusion_explained.film import mosaic, pixels, png
from diffusion_explained.metrics import classify

REACH = 5.0  # places of points are sent as 16-bit numbers from -REACH to REACH; noise beyond is drawn at the edge
LOUDNESS, PEAK = 0.08, 0.9  # root mean square of a sound, and its largest value: noise is then no louder than a word
UNIT = 4.0  # angstroms are one unit of a molecule's picture
HERTZ = (250, 500, 1000, 2000, 4000)  # marked beside a spectrogram
BRIGHT = 0.2  # of the way from black to white: a pixel above it belongs to a digit


@dataclass(frozen=True)
class Part:
    """A panel of a film: its kind (a class of parts.js), its title, its words per frame, and what its class draws.

    content: plain JSON, described beside the class.
    """

    kind: str
    title: str
    words: tuple[str, ...]
    content: dict[str, Any]


@dataclass(frozen=True)
class PartFilm:
    """Parts side by side, with one caption per frame; ends: the colours of the slider's ends, "data" or "noise".

    Raises ValueError for no part, and for a part with another number of frames.
    """

    parts: tuple[Part, ...]
    captions: tuple[str, ...]
    ends: tuple[str, str] = ("noise", "data")

    def __post_init__(self) -> None:
        check_some("parts", self.parts)
        count = len(self.captions)
        for part in self.parts:
            if len(part.words) != count:
                raise ValueError(
                    f"The part {part.title!r} has {len(part.words)} frames, but there are {count} captions."
                )

    @property
    def key(self) -> str:
        """A digest of the film's content, by which a browser recognizes a film that it already has."""
        return str(self.to_message()["key"])

    def to_message(self) -> dict[str, Any]:
        """The message for scrubber.js, as plain JSON."""
        parts = [
            {"kind": one.kind, "title": one.title, "words": list(one.words), "content": one.content}
            for one in self.parts
        ]
        of_parts = {"parts": parts, "captions": list(self.captions), "ends": list(self.ends)}
        no_pictures: dict[str, Any] = {"titles": [], "alts": [], "frames": [], "charts": [], "rows": [], "lead": None}
        return {**no_pictures, **of_parts, "key": hashlib.sha256(json.dumps(of_parts).encode()).hexdigest()[:16]}


@typed_arguments
def clip_part(title: str, clips: Sequence[Tensor], digits: int = 1) -> Part:
    """A clip [1, 1, F, H, H] per frame of the film, values in [-1, 1], which plays while it is looked at.

    digits: how many move in the clip; one alone is named by the classifier of MNIST.
    Raises ValueError for no clips, and for tensors of another shape.
    """
    of_all = _states("clips", clips, 5)
    if of_all.shape[1] != 1 or of_all.shape[3] != of_all.shape[4]:
        raise ValueError(f"clips must be [1, 1, F, H, H]; got {[1, *of_all.shape[1:]]}.")
    count, side = of_all.shape[2], of_all.shape[3]
    sheets = [_text(png(mosaic(pixels(clip.transpose(0, 1)), count, gap=0))) for clip in of_all]
    bright = ((of_all.clamp(-1, 1) + 1) / 2 > BRIGHT).float().mean((1, 2, 3, 4)).tolist()
    words = [f"{share:.0%} of the pixels are bright" for share in bright]
    if whole("digits", digits, 1, 2) == 1:
        _, logits = classify(cut_out(of_all))
        named = logits.argmax(1).view(len(of_all), count)
        digit, _ = named.mode(dim=1)
        kept = (named == digit[:, None]).sum(1)
        words = [
            f"{one}; a classifier sees the digit {label} in {frames} of {count} frames"
            for one, label, frames in zip(words, digit.tolist(), kept.tolist(), strict=True)
        ]
    return Part("clip", title, tuple(words), {"sheets": sheets, "frames": count, "side": side})


@typed_arguments
def attention_part(title: str, maps: Sequence[Tensor]) -> Part:
    """How much each frame of a clip attends to each other one, [1, F, F] per frame of the film; each row sums to 1.

    The colours go from 0 to the largest weight of the film. Raises ValueError for no maps, for tensors of another
    shape, and for negative weights.
    """
    of_all = _states("maps", maps, 3)
    count = of_all.shape[1]
    if of_all.shape[2] != count or bool((of_all < 0).any()):
        raise ValueError(f"maps must be weights [1, F, F], 0 or more; got {[1, *of_all.shape[1:]]}.")
    frames = torch.arange(count, device="cpu", dtype=torch.int64)
    near = (frames[:, None] - frames).abs() <= 1
    share = (of_all * near).sum(-1).mean(-1)
    alike = float(near.float().mean(-1).mean())  # the share of a frame that attends to all alike
    words = tuple(f"{float(one):.0%} to itself and its neighbours; to all alike, {alike:.0%}" for one in share)
    levels = (of_all / of_all.max().clamp_min(1e-12) * 255).round().to(torch.uint8)
    ticks = [[(frame - 0.5) / count, str(frame)] for frame in sorted({1, max(1, count // 2), count})]
    content = {
        "levels": [_text(one.numpy().tobytes()) for one in levels],
        "rows": count,
        "columns": count,
        "x_ticks": ticks,
        "y_ticks": ticks,
        "x_label": "frame that is looked at",
        "y_label": "frame that looks",
    }
    return Part("attention", title, words, content)


@typed_arguments
def sound_part(title: str, spectrograms: Sequence[Tensor]) -> Part:
    """A log-mel spectrogram [1, 1, 64, 64] per frame of the film, which is seen and heard.

    Each is made audible by Griffin-Lim (`to_wave`), equally loud, and named by the classifier of spoken words.
    Raises ValueError for no spectrograms, and for tensors of another shape.
    """
    of_all = _states("spectrograms", spectrograms, 4)
    waves = to_wave(of_all)
    words = []
    with torch.no_grad():
        for p in classifier()(log_mel(waves.clamp(-1, 1))).softmax(1):
            words.append(f"a classifier hears “{WORDS[int(p.argmax())]}” ({float(p.max()):.0%} sure)")
    loud = ((of_all[:, 0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)  # mel, as in `mel_filters`
    content = {
        "levels": [_text(one.numpy().tobytes()) for one in loud],
        "rows": BANDS,
        "columns": FRAMES,
        "x_ticks": [[second / (SAMPLES / SAMPLE_RATE), f"{second:g}"] for second in (0, 0.25, 0.5, 0.75, 1)],
        "y_ticks": [[float(2595 * np.log10(1 + one / 700) / top), f"{one:,}"] for one in HERTZ],
        "x_label": "time (s)",
        "y_label": "frequency (Hz)",
        "waves": [_text(wav_bytes(one)) for one in _equally_loud(waves)],
    }
    return Part("sound", title, tuple(words), content)


@typed_arguments
def cloud_part(title: str, clouds: Sequence[Tensor], noise: Sequence[float] | None = None) -> Part:
    """A cloud of points [1, N, 3] per frame of the film, z upwards, which the reader turns.

    noise: the share of noise in each, from 0 to 1, which decides its colour; by default 0, data.
    Raises ValueError for no clouds, for tensors of another shape, and unless there is one share per cloud.
    """
    of_all = _states("clouds", clouds, 3)
    if of_all.shape[2] != 3:
        raise ValueError(f"clouds must be points [1, N, 3]; got {[1, *of_all.shape[1:]]}.")
    shares = _shares(noise, len(of_all), "cloud")
    inside = (of_all.norm(dim=-1) <= 1).float().mean(1)
    words = tuple(f"{of_all.shape[1]:,} points, {float(one):.0%} of them at most 1 from the middle" for one in inside)
    content = {"places": [_places(one) for one in of_all], "reach": REACH, "noise": shares}
    return Part("cloud", title, words, content)


@typed_arguments
def molecule_part(title: str, items: Sequence[Tensor], noise: Sequence[float] | None = None) -> Part:
    """Atoms in space, an item [1, 9, 8] of `beyond.molecules` per frame of the film, which the reader turns.

    Bonds are drawn where they fit all distances. Before that, atoms nearer than a bond can be are joined, too.
    noise: the share of noise in each, from 0 to 1; by default 0, data.
    Raises ValueError for no items, for tensors of another shape, and unless there is one share per item.
    """
    of_all = _states("items", items, 3)
    molecules = to_molecules(of_all)
    shares = _shares(noise, len(of_all), "molecule")
    places, elements, bonds, words = [], [], [], []
    for molecule in molecules:
        count = len(molecule.elements)
        padded = torch.zeros(MOST_ATOMS, 3, device="cpu", dtype=torch.float32)
        padded[:count] = molecule.positions / UNIT
        places.append(_places(padded))
        elements.append("".join(ELEMENTS[one] for one in molecule.elements))
        found = find_bonds(molecule)
        if found is None:
            near = torch.cdist(molecule.positions, molecule.positions) < CONTACT
            bonds.append([[a, b, 1] for a in range(count) for b in range(a + 1, count) if near[a, b]])
        else:
            bonds.append([[a, b, order] for (a, b), order in sorted(with_double_bonds(molecule).items())])
        kept = f"a valid molecule, {NAMES[shape_of(molecule)]}" if is_valid(molecule) else "no valid molecule"
        words.append(f"{molecule.formula or 'no atoms'}: {kept}")
    content = {"places": places, "reach": REACH, "noise": shares, "elements": elements, "bonds": bonds}
    return Part("molecule", title, tuple(words), content)


NAMES = {"chain": "a chain", "ring": "with a ring", "aromatic": "with an aromatic ring"}


@typed_arguments
def letters_part(
    title: str,
    texts: Sequence[Tensor],
    alphabet: Alphabet,
    given: Tensor | None = None,
    sure: Sequence[Tensor] | None = None,
) -> Part:
    """A text [1, N] per frame of the film, in letters; those that differ from the frame before are marked.

    given: which letters were known from the start, bool [N]. sure: the probability of each letter, [1, N] per frame,
    for a text that is predicted. Raises ValueError for no texts, and unless there are as many of `sure`.
    """
    texts = all_of("texts", texts, Tensor)
    check_some("texts", texts)
    hidden, (count,) = len(alphabet.letters), {text.shape[-1] for text in texts}
    known = torch.zeros(count, dtype=torch.bool, device="cpu") if given is None else given
    marks = []
    for before, text in zip((texts[0], *texts[:-1]), texts, strict=True):
        new = (text != before)[0]
        kinds = zip(text[0].tolist(), new.tolist(), known.tolist(), strict=True)
        marks.append("".join("h" if x == hidden else "f" if fresh else "g" if old else "." for x, fresh, old in kinds))
    decoded = [alphabet.decode(text)[0] for text in texts]
    shares = None
    if sure is not None:
        if len(sure) != len(texts):
            raise ValueError(f"sure must be one tensor per text; got {len(sure)} for {len(texts)} texts.")
        shares = ["".join(str(int(p)) for p in (9 * one[0].float()).round().tolist()) for one in sure]
    content = {"texts": decoded, "marks": marks, "sure": shares}
    return Part("letters", title, tuple(f"“{one}”" for one in decoded), content)


def _shares(noise: Sequence[float] | None, count: int, what: str) -> list[float]:
    """The share of noise in each of `count` states."""
    shares = [0.0] * count if noise is None else [float(one) for one in noise]
    if len(shares) != count or not all(0 <= one <= 1 for one in shares):
        raise ValueError(f"noise must be one share from 0 to 1 per {what}; got {len(shares)} for {count} {what}s.")
    return shares


def _places(points: Tensor) -> str:
    """Points [N, 3] as parts.js reads them."""
    return _text((points / REACH).clamp(-1, 1).mul(32767).round().to(torch.int16).numpy().tobytes())


def _states(what: str, states: Sequence[Tensor], dimensions: int) -> Tensor:
    """States [1, ...] as one tensor [frames, ...], finite float32 on the CPU."""
    states = all_of(what, states, Tensor)
    check_some(what, states)
    for one in states:
        if float_data(what, one).ndim != dimensions or one.shape != states[0].shape or len(one) != 1:
            raise ValueError(
                f"{what} must be tensors of one shape, [1, ...] with {dimensions} dimensions; got {list(one.shape)}."
            )
    joined = torch.cat([one.detach().float().cpu() for one in states])
    check_finite(joined, what)
    return joined


def _equally_loud(waves: Tensor) -> Tensor:
    """Waves [B, N] of the same root mean square, LOUDNESS, unless a peak would then be above PEAK."""
    spread = waves.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
    peak = waves.abs().amax(1, keepdim=True).clamp_min(1e-6)
    return waves * torch.minimum(LOUDNESS / spread, PEAK / peak)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
