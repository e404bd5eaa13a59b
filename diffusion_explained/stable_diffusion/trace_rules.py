"""Rules for a recorded run: every field has a type and bounds, and the fields agree with each other.

A trace may come from anyone, so these rules are applied before anything is computed from it: a field that is missing,
unknown, of another type, too large, or that contradicts the pictures is a ValueError that names the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from diffusion_explained.stable_diffusion.rules import Rule, whole

LABELS = ("live", "recorded", "stand-in")
# as in `samplers` and `schedules`, repeated here so that this module does not import torch
SAMPLERS = ("ddim", "ddpm", "dpm_solver_pp_2m", "euler", "euler_ancestral", "heun")
SPACINGS = ("leading", "linspace", "trailing", "karras", "exponential", "beta")
PICTURES = {"x_0": 5, "latents": 5, "pictures": 4}  # names of the arrays, and their dimensions
MOST_STEPS, MOST_IMAGES = 1000, 4  # a step takes about 25 kB per image
LARGEST = 512  # pixels of a kept picture's longer side
LARGEST_RUN = 16_384  # pixels along a side of the run's picture
MOST_LETTERS, MOST_IDS = 20_000, 4096  # letters of a prompt, and its token ids
FAR = 1e9  # the largest time, norm or number of seconds


def real(low: float, high: float) -> Rule:
    """A number from low to high; NaN is not allowed."""
    return Rule(f"a number from {low:g} to {high:g}", lambda v: type(v) in (int, float) and low <= v <= high)


def text(most: int, least: int = 0) -> Rule:
    """A text of `least` to `most` letters, each of which can be written as UTF-8 (half a surrogate pair cannot)."""

    def allows(value: Any) -> bool:
        return isinstance(value, str) and least <= len(value) <= most and not re.search("[\ud800-\udfff]", value)

    return Rule(f"a text of {least:,} to {most:,} letters", allows)


def one_of(*known: str) -> Rule:
    """One of these words."""
    return Rule(f"one of {', '.join(known)}", lambda v: isinstance(v, str) and v in known)


def several(rule: Rule, least: int, most: int) -> Rule:
    """A list of `least` to `most` values, each of which satisfies a rule."""

    def allows(value: Any) -> bool:
        return isinstance(value, list | tuple) and least <= len(value) <= most and all(map(rule.allows, value))

    count = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return Rule(f"a list of {count}, each {rule.words}", allows)


def fields(rules: Mapping[str, Rule]) -> Rule:
    """An object with exactly these fields."""

    def allows(value: Any) -> bool:
        return (
            isinstance(value, dict) and value.keys() == rules.keys() and all(rules[k].allows(value[k]) for k in rules)
        )

    return Rule("{" + ", ".join(f"{name}: {rule.words}" for name, rule in rules.items()) + "}", allows)


def perhaps(rule: Rule) -> Rule:
    """null, or a value that satisfies a rule."""
    return Rule(f"null or {rule.words}", lambda v: v is None or rule.allows(v))


FLAG = Rule("true or false", lambda v: isinstance(v, bool))
SHORT = text(300, least=1)
PROMPTS = several(text(MOST_LETTERS), 1, MOST_IMAGES)
COUNT = whole(1, MOST_IDS)
WORD = Rule(
    "a word and how many tokens it takes",
    lambda v: isinstance(v, list | tuple) and len(v) == 2 and text(MOST_LETTERS).allows(v[0]) and COUNT.allows(v[1]),
)
PARTS = Rule(
    "1 to 32 names of parts with their numbers of parameters",
    lambda v: isinstance(v, dict) and 1 <= len(v) <= 32
    and all(text(100, least=1).allows(name) and whole(0, 10**13).allows(count) for name, count in v.items()),
)  # fmt: skip

SETTINGS = {
    "model": SHORT,
    "prompt": PROMPTS,
    "negative": perhaps(PROMPTS),
    "sampler": one_of(*SAMPLERS),
    "spacing": perhaps(one_of(*SPACINGS)),
    "guidance_scale": real(0, 100),
    "num_inference_steps": whole(1, MOST_STEPS),
    "seeds": several(whole(0, 2**64 - 1), 1, MOST_IMAGES),
    "height": whole(1, LARGEST_RUN),
    "width": whole(1, LARGEST_RUN),
    "latent_shape": several(whole(1, LARGEST_RUN), 3, 3),
    "frames": perhaps(whole(1, 10_000)),
    "text_shape": several(whole(1, 10**6), 1, 3),
    "from_image": FLAG,
    "strength": real(0, 1),
    "inpainting": FLAG,
    "resamplings": perhaps(whole(1, MOST_STEPS)),
    "safety_checker_left_out": FLAG,
    "parameters": PARTS,
    "device": SHORT,
    "dtype": SHORT,
    "preview_decoder": perhaps(SHORT),
    "date": SHORT,
    "seconds": fields({stage: real(0, FAR) for stage in ("text", "steps", "decode")}),
}
# the files of earlier releases do not have these
LATER = ("spacing", "safety_checker_left_out", "preview_decoder", "frames", "resamplings")
TOKENS = {  # of one prompt, as one text encoder reads it
    "encoder": text(100, least=1),
    "ids": several(whole(0, 10**7), 1, MOST_IDS),
    "pieces": several(text(MOST_LETTERS), 1, MOST_IDS),
    "words": several(WORD, 0, MOST_IDS),
    "used": whole(1, MOST_IDS),
    "cut": text(MOST_LETTERS),
}


def row_rules(images: int) -> dict[str, Rule]:
    """The rules for the fields of one step of a run of `images` images."""
    norms = several(real(0, FAR), images, images)
    return {
        "i": whole(0, MOST_STEPS - 1),
        "t": real(0, FAR),
        "alpha": real(0, FAR),
        "sigma": real(0, FAR),
        "x_t_norm": norms,
        "cond_norm": norms,
        "uncond_norm": perhaps(norms),
        "difference_norm": perhaps(norms),
    }


def check_shapes(shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise ValueError for arrays that are not pictures, are too large or too many, or do not fit together."""
    if set(shapes) != set(PICTURES):
        raise ValueError(f"its arrays are {_shown(sorted(shapes))}, not {', '.join(PICTURES)}")
    for name, dimensions in PICTURES.items():
        shape = tuple(shapes[name])
        if len(shape) != dimensions or shape[-1] != 3 or min(shape) < 1 or max(shape[-3:-1]) > LARGEST:
            raise ValueError(f"{name} must be pictures of at most {LARGEST} pixels per side; their shape is {shape}")
    (steps, images, *side), latents = shapes["x_0"], shapes["latents"]
    if steps > MOST_STEPS or images > MOST_IMAGES:
        raise ValueError(f"it has {steps:,} steps of {images:,} images; allowed are {MOST_STEPS:,} of {MOST_IMAGES}")
    if tuple(latents) != (steps + 1, images, *side):
        raise ValueError(f"its latents are {tuple(latents)}, and its x_0 {tuple(shapes['x_0'])}")
    if shapes["pictures"][0] != images:
        raise ValueError(f"it has {shapes['pictures'][0]} pictures for {images} images")


def check_words(words: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise ValueError for a field that breaks its rule, or fields that contradict each other or the pictures."""
    steps, images = shapes["x_0"][:2]
    settings, tokens, rows = words["settings"], words["tokens"], words["rows"]
    _keep({"label": words["label"]}, {"label": one_of(*LABELS)}, "the trace")
    _keep(settings, SETTINGS, "settings", LATER)
    if settings["num_inference_steps"] != steps:
        raise ValueError(f"its settings say {settings['num_inference_steps']} steps, and its pictures {steps}")
    if len(settings["seeds"]) != images:
        raise ValueError(f"it has {len(settings['seeds'])} seeds for {images} images")
    prompts = len(settings["prompt"])
    if prompts not in (1, images) or (settings["negative"] and len(settings["negative"]) not in (1, prompts, images)):
        raise ValueError(f"it has {prompts} prompts for {images} images, or another number of negative ones")
    _check_size(settings, shapes["pictures"])
    if not isinstance(tokens, list) or len(tokens) != prompts:
        raise ValueError(f"its tokens are not a list of {prompts}, one per prompt")
    for of_prompt in tokens:
        if not isinstance(of_prompt, list) or len(of_prompt) > 4:  # none, where the pipeline reads a prompt in its way
            raise ValueError("its tokens are not those of at most 4 text encoders per prompt")
        for one in of_prompt:
            _check_tokens(one)
    if not isinstance(rows, list) or len(rows) != steps:
        count = f"{len(rows)} rows" if isinstance(rows, list) else "no rows"
        raise ValueError(f"it has {count} for {steps} steps")
    rules = row_rules(images)
    for k, row in enumerate(rows):
        _keep(row, rules, f"row {k}")
        if row["i"] != k:
            raise ValueError(f"row {k} is numbered {row['i']}")
        if (row["uncond_norm"] is None) != (row["difference_norm"] is None):
            raise ValueError(f"row {k} has only one of uncond_norm and difference_norm")
        if row["alpha"] == row["sigma"] == 0:
            raise ValueError(f"row {k} has neither signal nor noise")
    for k, (row, after) in enumerate(pairwise(rows)):
        falls = after["sigma"] * row["alpha"] < row["sigma"] * after["alpha"]  # of sigma/alpha, where alpha may be 0
        # the network's time input may stay the same: DPM-Solver++ rounds it to whole timesteps
        if not (falls and after["t"] <= row["t"]):
            raise ValueError(f"the level of row {k + 1} is not cleaner than that of row {k}")


def _check_size(settings: Mapping[str, Any], pictures: Sequence[int]) -> None:
    """Raise ValueError unless the kept pictures have the run's size, scaled to at most LARGEST, up to rounding."""
    height, width = settings["height"], settings["width"]
    scale = min(1.0, LARGEST / max(height, width))
    for true, kept in zip((height, width), pictures[1:3], strict=True):
        if abs(true * scale - kept) > 1:
            raise ValueError(f"its settings say {height} x {width} pixels, and its pictures {tuple(pictures[1:3])}")


def _check_tokens(one: Any) -> None:
    _keep(one, TOKENS, "tokens")
    if len(one["pieces"]) != len(one["ids"]) or one["used"] > len(one["ids"]):
        raise ValueError(f"its tokens are {len(one['ids'])} ids, {len(one['pieces'])} pieces and {one['used']} used")
    if sum(count for _, count in one["words"]) > one["used"]:
        raise ValueError("its words take more tokens than are used")


def _keep(values: Any, rules: Mapping[str, Rule], where: str, optional: Sequence[str] = ()) -> None:
    """Raise ValueError, naming the field, unless `values` has exactly the fields of `rules`, each as its rule says.

    optional: fields that may be missing.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be named fields, got {_shown(values)}")
    if missing := sorted(rules.keys() - values.keys() - set(optional)):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(values.keys() - rules.keys()):
        raise ValueError(f"{where} has fields that are not known: {_shown(unknown)}")
    for name, rule in rules.items():
        if name in values and not rule.allows(values[name]):
            raise ValueError(f"{name} of {where} must be {rule.words}, got {_shown(values[name])}")


def _shown(value: Any, most: int = 60) -> str:
    """A value as text for a message, shortened to `most` letters."""
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of very many digits"
    begin = value[:most] if isinstance(value, str | list | tuple) else value
    words = ascii(begin) if not isinstance(begin, dict) else f"fields {', '.join(map(ascii, list(begin)[:5]))}"
    return words if len(words) <= most else f"{words[:most]}..."
