"""The settings with which a model is meant to be used: size, steps, guidance scale, sampler and spacing.

They come from the model's own files first, then from what its published card says (`CARDS`), then from its family:

| setting        | from the files                                    | else                                   |
|----------------|---------------------------------------------------|----------------------------------------|
| size           | the network's sample_size, or the family's        |                                        |
| steps          | the kind of network (a Turbo's, a consistency     | the card of that name, or the family's |
|                | model's, one that was distilled)                  |                                        |
| guidance scale | the same                                          | the same                               |
| sampler        | that of the model's scheduler                     | DDIM; Euler for a flow                 |
| spacing, shift | the scheduler's                                   | "trailing" for distilled models        |

Python, the command line and the explorer all read them here. Nothing here imports diffusers.

A model card's guidance_scale 0.0 is 1 here: diffusers switches guidance off at every scale up to 1, and here, as in the
papers, 1 is off and 0 is the prediction without the prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL, FAMILIES, MICRO_TITLE, Family
from diffusion_explained.stable_diffusion.levels import default_sampler_of
from diffusion_explained.stable_diffusion.schedulers import scheduler_class
from diffusion_explained.stable_diffusion.weights import Weights

OFF = 1.0  # the guidance scale that adds nothing
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Defaults:
    """How a model is used unless something else is asked for.

    size: (height, width) in pixels, None where the network's configuration states none; spacing: None for that of the
    model's scheduler; prompt: one that the model can draw.
    """

    size: tuple[int, int] | None
    num_inference_steps: int
    guidance_scale: float
    sampler: str
    spacing: str | None = None
    prompt: str = "a photo of an astronaut riding a horse"


@dataclass(frozen=True)
class Card:
    """What the card of a published model says about its use; None leaves a setting as it is.

    families: those in which a name is looked for; name: a pattern in the model's name. A number of steps in the name
    ("sdxl_lightning_8step") counts more than `steps`.
    """

    families: tuple[str, ...]
    name: str
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    spacing: str | None = None


DISTILLED = ("sd", "sdxl")
CARDS = (
    Card(("sd",), "turbo", 1, OFF, "euler", "trailing"),
    Card(("sdxl",), "turbo", 1, OFF, "euler_ancestral", "trailing"),
    Card(DISTILLED, "lightning", 4, OFF, "euler", "trailing"),
    Card(DISTILLED, r"hyper[-_ ]?sd", 4, OFF, "ddim", "trailing"),
    Card(DISTILLED, r"(^|[-_ .])lcm", 4, OFF, spacing="trailing"),
    Card(("sdxl",), "playground", 50, 3.0),
    Card(("sd3",), "turbo", 4, OFF),
    Card(("z_image",), "turbo", 9, OFF),
    Card(("ltx",), "distilled", 8, OFF),
)
STEPS_IN_NAME = re.compile(r"(\d{1,2})[-_ ]?steps?(?![a-z])")


def defaults_of(name: str, family: Family, network: Config, vae: Config, scheduler: Config, index: Config) -> Defaults:
    """The default settings of a model, from its name and the configurations of its parts.

    scheduler: with its class as _class_name; index: the pipeline's own configuration, or its model_index.json.
    """
    found = Defaults(
        _size(family, network, vae), family.num_inference_steps, family.guidance_scale, _sampler(family, scheduler)
    )
    if network.get("time_cond_proj_dim") is not None:  # a latent consistency model: its scale is an input, not guidance
        return replace(found, num_inference_steps=4, guidance_scale=8.0)
    if _needs_no_guidance(family, network, index):
        return replace(found, num_inference_steps=4, guidance_scale=OFF)
    if _is_turbo(family, network, scheduler):
        return replace(found, num_inference_steps=1, guidance_scale=OFF)
    if family.name == "sd3" and network.get("qk_norm") is not None:  # Stable Diffusion 3.5: medium, or large
        medium = bool(network.get("dual_attention_layers"))
        found = replace(found, num_inference_steps=40 if medium else 28, guidance_scale=4.5 if medium else 3.5)
    if family.name == "sdxl" and scheduler["_class_name"] == "EDMDPMSolverMultistepScheduler":  # Playground v2.5
        found = replace(found, num_inference_steps=50, guidance_scale=3.0)
    return _as_on_card(found, name, family)


def _as_on_card(found: Defaults, name: str, family: Family) -> Defaults:
    last = (re.sub(r".*models--[^/\\]+--([^/\\]+).*", r"\1", name) if "models--" in name else Path(name).name).lower()
    card = next((card for card in CARDS if family.name in card.families and re.search(card.name, last)), None)
    if card is None or family.title == MICRO_TITLE:
        return found
    said = STEPS_IN_NAME.search(last)
    steps = int(said[1]) if said and int(said[1]) > 0 and card.guidance_scale == OFF else card.steps
    return replace(
        found,
        num_inference_steps=steps or found.num_inference_steps,
        guidance_scale=card.guidance_scale or found.guidance_scale,
        sampler=card.sampler or found.sampler,
        spacing=card.spacing,
    )


def _size(family: Family, network: Config, vae: Config) -> tuple[int, int] | None:
    if family.drive is not None and family.drive.size is not None:
        return family.drive.size
    size = network.get("sample_size")
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    return height * pixels_of(vae), width * pixels_of(vae)


def pixels_of(vae: Config) -> int:
    """Picture pixels per latent pixel along each side, from an autoencoder's configuration."""
    widths = vae.get("block_out_channels") or vae.get("encoder_block_out_channels")
    if widths is None:  # the default of diffusers' classes
        widths = (64,) if vae.get("_class_name") == "AutoencoderKL" else (64,) * 4
    return 2 ** (len(widths) - 1)


def _sampler(family: Family, scheduler: Config) -> str:
    own = scheduler_class(scheduler).sampler if family.drive is not None else None  # a driven flow may have a solver
    return own or default_sampler_of(scheduler)


def _needs_no_guidance(family: Family, network: Config, index: Config) -> bool:
    """Whether the files say that a network was distilled to need no guidance: FLUX.1 schnell, FLUX.2 klein."""
    schnell = family.name == "flux" and not network.get("guidance_embeds")
    return schnell or bool(index.get("is_distilled"))


def _is_turbo(family: Family, network: Config, scheduler: Config) -> bool:
    """Whether the files are those of SD-Turbo or SDXL-Turbo: the only ones with 64 latents a side that trail."""
    trails = scheduler.get("timestep_spacing") == "trailing" and not scheduler.get("rescale_betas_zero_snr")
    width = network.get("cross_attention_dim")
    turbo = {"sd": ("EulerDiscreteScheduler", 1024), "sdxl": ("EulerAncestralDiscreteScheduler", 2048)}
    given = (scheduler["_class_name"], width)
    return trails and network.get("sample_size") == 64 and turbo.get(family.name) == given


def defaults_of_weights(weights: Weights) -> Defaults:
    """The default settings of a model on this machine, from its files; no weights are read."""
    network, vae, scheduler = (weights.configuration(part) for part in (weights.family.network, "vae", "scheduler"))
    found = defaults_of(weights.name, weights.family, network, vae, scheduler, weights.index())
    return replace(found, prompt="a blue cat") if weights.family.title == MICRO_TITLE else found


SEEN_LATER = {  # (family, side in pixels, steps, guidance scale, sampler) of models that may not be on this machine
    DEFAULT_MODEL: ("sd", 512, 30, 7.5, "ddim"),
    "stabilityai/stable-diffusion-2-1": ("sd", 768, 30, 7.5, "ddim"),
    "stabilityai/stable-diffusion-xl-base-1.0": ("sdxl", 1024, 30, 5.0, "euler"),
    "stabilityai/stable-diffusion-3-medium-diffusers": ("sd3", 1024, 28, 7.0, "euler"),
    "stabilityai/stable-diffusion-3.5-medium": ("sd3", 1024, 40, 4.5, "euler"),
}


def defaults_of_name(name: str) -> Defaults:
    """The default settings of a model that is not on this machine: the published one of this name, or a guess."""
    family, side, steps, scale, sampler = SEEN_LATER.get(name, SEEN_LATER[DEFAULT_MODEL])
    found = Defaults((side, side), steps, scale, sampler)
    return found if name in SEEN_LATER else _as_on_card(found, name, FAMILIES[family])


def fewer_pixels(found: Defaults, side: int, steps: int) -> Defaults:
    """The settings with at most `side` pixels a side, in multiples of 64, and at most so many steps.

    A model that states no size gets 512 x 512.
    """
    height, width = found.size or (512, 512)
    scale = side / max(height, width)
    if scale < 1:
        height, width = (max(64, math.floor(one * scale / 64) * 64) for one in (height, width))
    return replace(found, size=(height, width), num_inference_steps=min(steps, found.num_inference_steps))
