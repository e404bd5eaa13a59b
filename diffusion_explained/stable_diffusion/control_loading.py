"""Load ControlNets in diffusers' format for a model, or refuse them in words: see `control`.

A ControlNet belongs to the U-Net that it was trained with: it reads a text of the same width, and its residuals have
the shapes of that U-Net's skip connections. Two bases of the same shapes cannot be told apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffusion_explained.checks import typed_arguments
from diffusion_explained.messages import shortened
from diffusion_explained.stable_diffusion.configurations import (
    NULL,
    OFF,
    UNETS,
    WIDTH,
    WIDTHS,
    check_values,
    either,
    only,
)
from diffusion_explained.stable_diffusion.control import LoadedControl
from diffusion_explained.stable_diffusion.families import MICRO
from diffusion_explained.stable_diffusion.latents import dtype_of
from diffusion_explained.stable_diffusion.listing import PICKLED, WeightsUnavailableError, read_json, refusal_of_pickles
from diffusion_explained.stable_diffusion.memory import enough_memory
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.parts import load_part
from diffusion_explained.stable_diffusion.weights import MICRO_FOLDER, Weights, cached_folder, is_repository

CONTROLNET = "ControlNetModel"
CONTROL_FOLDER = MICRO_FOLDER.with_name("micro_control")
CONFIG = "config.json"
OWN = {  # the keys of a ControlNetModel's config.json that a U-Net does not have, or that `_check_fit` compares
    "conditioning_channels": WIDTH,
    "controlnet_conditioning_channel_order": only("rgb", "bgr"),
    "conditioning_embedding_out_channels": WIDTHS,
    "global_pool_conditions": OFF,
    "encoder_hid_dim": NULL,
    "encoder_hid_dim_type": NULL,
    "addition_embed_type": only(None, "text_time"),
    "addition_time_embed_dim": either(NULL, WIDTH),
    "projection_class_embeddings_input_dim": either(NULL, WIDTH),
}
OF_UNET = (  # the keys that both have
    "in_channels", "flip_sin_to_cos", "freq_shift", "down_block_types", "mid_block_type", "block_out_channels",
    "only_cross_attention", "layers_per_block", "downsample_padding", "mid_block_scale_factor", "act_fn",
    "norm_num_groups", "norm_eps", "cross_attention_dim", "transformer_layers_per_block", "attention_head_dim",
    "num_attention_heads", "use_linear_projection", "class_embed_type", "num_class_embeds", "upcast_attention",
    "resnet_time_scale_shift", "addition_embed_type_num_heads",
)  # fmt: skip
FITTING = (  # the keys that a ControlNet and its U-Net must agree on
    "cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type",
    "addition_time_embed_dim", "projection_class_embeddings_input_dim",
)  # fmt: skip


@typed_arguments
def load_control(model: StableDiffusion, *controls: Any) -> StableDiffusion:
    """Return a model with ControlNets, in this order, for `denoiser`, `steps` and `sample` with control=.

    Args:
        model: a Stable Diffusion 1.x, 2.x or XL, or micro (from `load`); it is not changed.
        controls: for each the folder of a ControlNetModel in diffusers' format, its name on the hub (in the local
            cache), "micro" for the ControlNet of edges, scribbles and layouts that is part of the package, or a
            ControlNetModel of diffusers.

    Raises ValueError for a model without a U-Net, for a ControlNet that was made for another base or has another
    format, and for pickled weights; WeightsUnavailableError for weights that are not on this machine.
    """
    if model.family.network != "unet" or model.family.drive is not None:
        raise ValueError(
            f"ControlNets are read for U-Nets (Stable Diffusion 1.x, 2.x, XL and micro); {model.name} is "
            f"{model.family.title}."
        )
    return replace(model, controls=tuple(_loaded(model, each) for each in controls))


def _loaded(model: StableDiffusion, control: Any) -> LoadedControl:
    """One ControlNet, checked against the model, on its device and in its dtype."""
    if type(control).__name__ == CONTROLNET:
        found = LoadedControl("the given ControlNet", control, model.pixels)
        _check_config(found.name, dict(control.config), model)
    elif isinstance(control, (str, os.PathLike)):
        found = _read(os.fspath(control), model)
    else:
        raise ValueError(f"A ControlNet is a folder, a name or diffusers' {CONTROLNET}; got {shortened(control)}.")
    _check_fit(found, model)
    network = found.network.to(model.device, dtype_of(model.network)).eval().requires_grad_(False)
    return replace(found, network=network)


def _read(name: str, model: StableDiffusion) -> LoadedControl:
    folder = _folder_of(name)
    config = read_json(folder / CONFIG)
    stated = config.get("_class_name", CONTROLNET)
    if stated != CONTROLNET:
        raise ValueError(f"{name} holds a {str(stated)[:80]}: a {CONTROLNET} of diffusers is read, and nothing else.")
    _check_config(name, config, model)
    own = Weights(name, folder.parent, model.family, "", {folder.name: ("diffusers", CONTROLNET)})
    half = dtype_of(model.network) != torch.float32
    if not own.files(folder.name, half):
        pickled = [file.name for file in sorted(folder.iterdir()) if file.suffix in PICKLED]
        if pickled:
            raise ValueError(refusal_of_pickles(["the ControlNet"], pickled, str(folder)))
        raise WeightsUnavailableError(f"{folder} holds no whole .safetensors weights of a ControlNet: copy them again.")
    with enough_memory(f"loading {name}"):
        return LoadedControl(name, load_part(own, folder.name, dtype_of(model.network), half), model.pixels)


def _folder_of(name: str) -> Path:
    """The folder of a ControlNet: the package's own, one on this machine, or a repository's in the hub's cache."""
    if name == MICRO:
        return CONTROL_FOLDER
    path = Path(name).expanduser()
    if path.suffix in PICKLED:
        raise ValueError(refusal_of_pickles(["the ControlNet"], [path.name], str(path.parent)))
    if path.is_file():
        raise ValueError(f"{name} is a file: give the folder of a ControlNet in diffusers' format (with a {CONFIG}).")
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise ValueError(f"{name} holds no {CONFIG}: give the folder of a ControlNet in diffusers' format.")
        return path.resolve()
    cached = cached_folder(name, CONFIG) if is_repository(name) else None
    if cached is None:
        raise WeightsUnavailableError(
            f"The ControlNet {name} is not on this machine: give its folder, or copy it into the hub's cache."
        )
    return cached


def _check_config(name: str, config: Mapping[str, Any], model: StableDiffusion) -> None:
    known = UNETS[model.family.name]
    check_values(config, {key: known[key] for key in OF_UNET} | OWN, f"{name} ({CONTROLNET})")


def _check_fit(found: LoadedControl, model: StableDiffusion) -> None:
    """Raise ValueError for a ControlNet whose residuals or inputs are not those of the model's U-Net."""
    own, base = found.network.config, model.network.config
    pairs = [(key, own[key], base[key]) for key in FITTING]
    pairs.insert(0, ("in_channels", own["in_channels"], model.pipe.vae.config.latent_channels))
    for key, one, other in pairs:
        one, other = (list(each) if isinstance(each, tuple) else each for each in (one, other))
        if one != other:
            raise ValueError(
                f"{found.name} was made for another base: its {key} is {one}, and {model.name} has {other}. Give a "
                f"ControlNet that was trained for {model.name}."
            )
