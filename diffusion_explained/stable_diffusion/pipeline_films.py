"""A run of text to image as the picture of the whole: tokens, embeddings, and what every step computes.

    run = pipeline_run(model, text, steps, x_0, 0, attention.columns(), attention.maps())
    to_message([run, other], distances(steps, other_steps))         # for pipeline.js

A recorded run (`pipeline_of_trace`) has tokens, latents, pictures and norms, but no embeddings, fields or attention.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import check_some, typed_arguments
from diffusion_explained.film import (
    EPS_RANGE,
    Film,
    arithmetic,
    difference,
    difference_range,
    evenly_spaced,
    film,
    level_caption,
    one_value,
    pixels,
    png,
)
from diffusion_explained.guidance import sides
from diffusion_explained.samplers import Step
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.recording import row_of
from diffusion_explained.stable_diffusion.text import Text
from diffusion_explained.stable_diffusion.trace_films import (
    DECODED,
    LATENTS,
    ending,
    levels_of_rows,
    mosaics,
    norm_charts,
)
from diffusion_explained.stable_diffusion.traces import Trace

MOST_WORDS = 15
MOST_CHANNELS = 4
THING = 0.3  # by how much a value of a thing's colour differs from the background's, in [-1, 1]
Side = tuple[float, float, float]


@dataclass(frozen=True)
class PipelineRun:
    """One image of a run, for the picture of the whole; n steps give n + 1 frames, the last one after all steps.

    name: what distinguishes it from another run; tokens: one dict per text encoder, as in a trace.
    pictures: a film of the decoded predicted x_0; fields: a film of latent size, whose panels are named by `panels`:
        "latent", and where they are known "with", "without", "difference", "guided" (noises), "channel 1" ...,
        "word 0" ... (attention, black at the word's least of this step and white at its most).
    words: those with attention; shares: per frame each word's share of all attention; noun, clearest: the word and the
        frame whose attention lies most clearly on the thing (`clearest_word`).
    embeds: the text encoder's output as a PNG of D columns and one row per token, or None.
    steps: the number of each frame's step, from 1 to count, without the last frame's.
    weights: (alpha, sigma) per frame; rests: what each step adds to the weighted sum (`film.arithmetic`).
    sides: per frame the triangle of both predictions (`guidance.sides`), empty without guidance; scale: w.
    shape: (C, h, w) of the latents; size: (H, W) of the picture; text_shape: (L, D) of the embeddings.
    """

    name: str
    tokens: Sequence[Mapping[str, Any]]
    pictures: Film
    fields: Film
    panels: tuple[str, ...]
    steps: tuple[int, ...]
    count: int
    weights: tuple[tuple[float, float], ...]
    sides: tuple[Side, ...]
    scale: float
    shape: tuple[int, int, int]
    size: tuple[int, int]
    text_shape: tuple[int, int]
    words: tuple[str, ...] = ()
    shares: tuple[tuple[float, ...], ...] = ()
    noun: int = 0
    clearest: int = 0
    embeds: bytes | None = None
    rests: tuple[float, ...] = ()
    limit: float = 1.0

    @property
    def key(self) -> str:
        """A digest of what is shown, by which a browser recognizes a run that it already has."""
        words = json.dumps([self.name, *self.tokens, self.pictures.key, self.fields.key, self.sides, self.scale])
        return hashlib.sha256(words.encode()).hexdigest()[:16]


@typed_arguments
def pipeline_run(
    model: StableDiffusion,
    text: Text,
    steps: Sequence[Step],
    x_0: Tensor,
    image: int,
    columns: Sequence[str],
    maps: Tensor,
    *,
    name: str = "",
    scale: float = 1.0,
    nouns: Iterable[str] = (),
) -> PipelineRun:
    """One image of a run that was made here, with all that its steps computed.

    Args:
        text: the run's. x_0: the decoded predicted x_0 of each step [n, 3, H, W] (`image_films.decoded`).
        columns, maps: of `attention.RecordedAttention`, maps [n, columns, h, w] of this image.
        name: shown where two runs are compared. scale: the guidance scale w.
        nouns: words of which one is shown at first, where the prompt has one; otherwise any of its words is.

    Raises ValueError if there are no steps.
    """
    check_some("steps", steps)
    of_image, count = slice(image, image + 1), len(steps)
    captions = [*(level_caption(k, step.level, count) for k, step in enumerate(steps)), ending(count)]
    last = model.decode(steps[-1].x_next[of_image])
    charts = norm_charts([row_of(_of_image(step, of_image)) for step in steps], range(count))
    pictures = film([(*DECODED, list(pixels(torch.cat([x_0, last.cpu()]))))], captions, charts=charts)
    states = [*(step.x_t[of_image] for step in steps), steps[-1].x_next[of_image]]
    panels: list[tuple[str, str, list[np.ndarray]]] = [("latent", LATENTS[1], _sheets(map(model.preview, states)))]

    def add(key: str, alt: str, fields: Sequence[Tensor], limit: float) -> None:
        panels.append((key, alt, _sheets([*fields, fields[-1]], limit)))

    guided = all(step.pred.eps_uncond is not None for step in steps)
    limit = difference_range(steps) if guided else 1.0
    add("with", "the noise predicted with the prompt", [step.pred.eps_cond[of_image] for step in steps], EPS_RANGE)
    if guided:
        without = [step.pred.eps_uncond[of_image] for step in steps if step.pred.eps_uncond is not None]
        add("without", "the noise predicted without the prompt", without, EPS_RANGE)
        add("difference", "what the prompt changes", [difference(step)[of_image] for step in steps], limit)
        add("guided", "the noise after guidance", [step.pred.eps[of_image] for step in steps], EPS_RANGE)
    for channel in range(min(MOST_CHANNELS, states[0].shape[1])):
        of_channel = [state[:, channel : channel + 1] for state in states]
        panels.append((f"channel {channel + 1}", "one channel of the latents", _sheets(of_channel, EPS_RANGE)))
    words = tuple(columns[1:-2])[:MOST_WORDS]  # without the start before them, the end and the padding after them
    of_words = maps[:, 1 : 1 + len(words)].cpu()
    for k in range(len(words)):
        least, most = (of_words[:, k].flatten(1).aminmax(dim=1)[which][:, None, None] for which in (0, 1))
        heat = (of_words[:, k] - least) / (most - least).clamp_min(1e-9)
        grey = [2 * one[None, None] - 1 for one in heat]
        panels.append((f"word {k}", f"where the picture attends to {words[k]}", _sheets([*grey, grey[-1]])))
    known = set(nouns)
    candidates = [k for k, word in enumerate(words) if word in known] or list(range(len(words)))
    noun, clearest = clearest_word(of_words, candidates, last[0].cpu()) if words else (0, 0)
    shares = [tuple(round(float(one), 4) for one in row) for row in of_words.mean((-2, -1))]
    triangle = [_rounded(sides(s.pred.eps_cond[of_image], s.pred.eps_uncond[of_image])) for s in steps
                if s.pred.eps_uncond is not None] if guided else []  # fmt: skip
    weights, rests = arithmetic([_of_image(step, of_image) for step in steps])
    embeds = text.embeds[image if len(text) > 1 else 0].detach().float().cpu()
    scaled = embeds / embeds.std(dim=0, keepdim=True).clamp_min(1e-6)  # no dimension outshines the others
    channels, rows, cols = states[0].shape[1:]
    return PipelineRun(
        name=name,
        tokens=[asdict(one) for one in text.tokens[image if len(text) > 1 else 0]],
        pictures=pictures,
        fields=film([(key, alt, sheets) for key, alt, sheets in panels], captions, rows=(len(panels),)),
        panels=tuple(key for key, _, _ in panels),
        steps=tuple(range(1, count + 1)),
        count=count,
        weights=weights,
        sides=tuple([*triangle, triangle[-1]]) if triangle else (),
        scale=scale,
        shape=(channels, rows, cols),
        size=(int(last.shape[-2]), int(last.shape[-1])),
        text_shape=(int(embeds.shape[0]), int(embeds.shape[1])),
        words=words,
        shares=tuple([*shares, shares[-1]]) if words else (),
        noun=noun,
        clearest=clearest,
        embeds=png(pixels((scaled - scaled.mean(0))[None, None], EPS_RANGE)[0]),
        rests=rests,
        limit=round(limit, 3),
    )


@typed_arguments
def pipeline_of_trace(trace: Trace, most: int = 60, *, name: str = "") -> PipelineRun:
    """A recorded run with what a trace keeps: tokens, latents in colours, decoded x_0 (mosaics of all images), norms.

    The triangle of both predictions follows from their norms u, c and that of their difference d by the law of cosines:
    the part of the difference along u is (c^2 - u^2 - d^2) / (2 u), with norms averaged over the images. Of a run with
    more than `most` steps, `most` evenly spread steps are shown.
    """
    count, said = len(trace.rows), trace.settings
    kept = evenly_spaced(count, most)
    levels = levels_of_rows(trace.rows)
    captions = [*(level_caption(k, levels[k], count) for k in kept), ending(count)]
    channels, rows, cols = (int(one) for one in said["latent_shape"])
    guided = all(row["difference_norm"] is not None for row in trace.rows)
    triangle = [_triangle(trace.rows[k], channels * rows * cols) for k in kept] if guided else []
    return PipelineRun(
        name=name,
        tokens=trace.tokens[0],
        pictures=film(
            [(*DECODED, mosaics(trace.x_0[[*kept, count - 1]]))], captions, charts=norm_charts(trace.rows, kept)
        ),
        fields=film([("latent", LATENTS[1], mosaics(trace.latents[[*kept, count]]))], captions),
        panels=("latent",),
        steps=tuple(k + 1 for k in kept),
        count=count,
        weights=(*((round(levels[k].alpha, 4), round(levels[k].sigma, 4)) for k in kept), (1.0, 0.0)),
        sides=(*triangle, triangle[-1]) if triangle else (),
        scale=float(said["guidance_scale"]),
        shape=(channels, rows, cols),
        size=(int(said["height"]), int(said["width"])),
        text_shape=(int(said["text_shape"][0]), int(said["text_shape"][1])),
    )


@typed_arguments
def distances(steps: Sequence[Step], others: Sequence[Step], image: int = 0, other: int = 0) -> tuple[float, ...]:
    """How far the states of two runs are apart at each frame, |x_A - x_B| / |x_A|: n + 1 numbers, the last of the ends.

    Raises ValueError for runs of different numbers of steps, or of different shapes.
    """
    check_some("steps", steps)
    if len(steps) != len(others):
        raise ValueError(f"Two runs are compared step by step: got {len(steps)} and {len(others)} steps.")
    found = []
    for a, b in zip(_states(steps, image), _states(others, other), strict=True):
        if a.shape != b.shape:
            raise ValueError(f"Two runs are compared value by value: got {list(a.shape)} and {list(b.shape)}.")
        found.append(round(float((a - b).norm() / a.norm().clamp_min(1e-12)), 4))
    return tuple(found)


def to_message(runs: Sequence[PipelineRun], apart: Sequence[float] = ()) -> dict[str, Any]:
    """The message for pipeline.js, as plain JSON: the first run's film of pictures, and all runs.

    apart: of `distances`, for two runs. Raises ValueError for another number of runs than one or two.
    """
    if len(runs) not in (1, 2):
        raise ValueError(f"One run is shown, or two on one timeline; got {len(runs)}.")
    key = hashlib.sha256(repr([*(run.key for run in runs), *apart]).encode()).hexdigest()[:16]
    messages = [_message(run) for run in runs]
    first = messages[0].pop("pictures")  # sent once
    return {**first, "key": key, "apart": list(apart), "runs": messages}


def clearest_word(maps: Tensor, candidates: Sequence[int], picture: Tensor) -> tuple[int, int]:
    """The word, of the candidates, and the step at which attention [n, words, h, w] lies most clearly on the thing.

    This is where its mean on the thing exceeds its mean beside it by the largest factor. The thing is what differs from
    the median colour of the edge of the picture [3, H, W].
    """
    edge = torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], dim=1).median(dim=1).values
    apart = (picture - edge[:, None, None]).abs().amax(0)
    thing = F.interpolate((apart > THING).float()[None, None], maps.shape[-2:], mode="area")[0, 0]
    of_words = maps[:, list(candidates)]
    on = (of_words * thing).sum((-2, -1)) / thing.sum().clamp_min(1e-6)
    beside = (of_words * (1 - thing)).sum((-2, -1)) / (1 - thing).sum().clamp_min(1e-6)
    step, word = divmod(int((on / beside.clamp_min(1e-12)).argmax()), len(candidates))
    return candidates[word], step


def _message(run: PipelineRun) -> dict[str, Any]:
    said = {one.name: getattr(run, one.name) for one in fields(run)}  # the rest is made to fit JSON below
    embeds = None if run.embeds is None else base64.b64encode(run.embeds).decode()
    tokens = [
        {"encoder": one["encoder"], "chips": chips(one), "length": len(one["ids"]), "used": one["used"],
         "cut": one["cut"]}
        for one in run.tokens
    ]  # fmt: skip
    return said | {
        "tokens": tokens,
        "embeds": embeds,
        "pictures": run.pictures.to_message(),
        "fields": run.fields.to_message(),
    }


def chips(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tokens of a prompt, one dict per word: word, ids, and whether it is special (start, end, padding)."""
    ids, words = list(one["ids"]), [(word, count) for word, count in one["words"]]
    starts = one["used"] - 1 - sum(count for _, count in words)  # CLIP marks start and end, T5 the end alone
    found = [{"word": "start", "ids": ids[:starts], "special": True}] if starts > 0 else []
    place = max(0, starts)
    for word, count in words:
        found.append({"word": word, "ids": ids[place : place + count], "special": False})
        place += count
    found.append({"word": "end", "ids": ids[place : one["used"]], "special": True})
    if padding := ids[one["used"] :]:
        found.append({"word": f"padding × {len(padding)}", "ids": padding[:1], "special": True})
    return found


def _of_image(step: Step, image: slice) -> Step:
    uncond = None if step.pred.eps_uncond is None else step.pred.eps_uncond[image]
    pred = replace(
        step.pred, x_0=step.pred.x_0[image], eps=step.pred.eps[image], eps_cond=step.pred.eps_cond[image],
        eps_uncond=uncond,
    )  # fmt: skip
    return replace(step, x_t=step.x_t[image], pred=pred, x_next=step.x_next[image])


def _states(steps: Sequence[Step], image: int) -> list[Tensor]:
    return [*(step.x_t[image] for step in steps), steps[-1].x_next[image]]


def _sheets(images: Iterable[Tensor], limit: float | None = None) -> list[np.ndarray]:
    """Images [1, C, h, w] of all frames as bytes; with a limit, signed fields as one value per pixel."""
    drawn = [one.cpu() if limit is None else one_value(one.cpu())[:, None] for one in images]
    return [sheet for one in drawn for sheet in pixels(one, limit)]


def _triangle(row: Mapping[str, Any], values: int) -> Side:
    u, c, d = (sum(row[name]) / len(row[name]) for name in ("uncond_norm", "cond_norm", "difference_norm"))
    along = (c * c - u * u - d * d) / (2 * u) if u > 0 else 0.0
    across = max(0.0, d * d - along * along) ** 0.5
    return _rounded(torch.tensor([[u, along, across]], dtype=torch.float32, device="cpu") / values**0.5)


def _rounded(triangle: Tensor) -> Side:
    length, along, across = (round(float(one), 4) for one in triangle[0])
    return length, along, across
