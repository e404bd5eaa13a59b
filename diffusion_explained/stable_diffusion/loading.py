"""Load a Stable Diffusion from the hub's cache or a folder, or report at once why it cannot be loaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import choose_device, torch_defaults
from diffusion_explained.stable_diffusion import latents as autoencoder
from diffusion_explained.stable_diffusion.configurations import check_part
from diffusion_explained.stable_diffusion.defaults import pixels_of
from diffusion_explained.stable_diffusion.downloads import fetch
from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL, MICRO, XL, Family
from diffusion_explained.stable_diffusion.fast import accelerate
from diffusion_explained.stable_diffusion.float8 import to_float8
from diffusion_explained.stable_diffusion.forecasts import check_room, dtype_named, usual_dtype
from diffusion_explained.stable_diffusion.listing import WeightsUnavailableError
from diffusion_explained.stable_diffusion.memory import enough_memory
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.parts import load_pipeline
from diffusion_explained.stable_diffusion.pipeline_model import drive_pipeline
from diffusion_explained.stable_diffusion.preview_decoders import read_preview_decoder
from diffusion_explained.stable_diffusion.tokenizer_rules import check_tokenizers
from diffusion_explained.stable_diffusion.weights import Weights, find_weights, is_repository

LIVE, STAND_IN = "live", "stand-in"


class NoGPUError(OSError):
    """There is no GPU, and the CPU was not chosen explicitly."""


@named_options
@typed_arguments
def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    *,
    download: bool = False,
    t5: bool | None = None,
    safety_checker: bool | None = None,
    offload: bool = False,
    slicing: bool = False,
    tiling: bool = False,
    float8: bool = False,
    fast: bool = False,
    parts_from: str | os.PathLike[str] | None = None,
    vae: str | os.PathLike[str] | None = None,
    prediction: str | None = None,
    preview_decoder: str | os.PathLike[str] | None = None,
) -> StableDiffusion:
    """Load a Stable Diffusion by its name on the hub, from a folder in diffusers' format, or from a single file.

    Missing weights, a missing network connection or a missing GPU is reported within two seconds, before diffusers is
    imported.

    Args:
        model: "owner/model", searched in the hub's cache (Stable Diffusion 1.5 also under its mirrors' names); a
            folder; a .safetensors file of Stable Diffusion 1.x, 2.x, XL, 3, 3.5 or FLUX.1; or "micro", this project's
            own small model, which is part of the package and needs no GPU.
        device: default: a GPU. "cpu" also works, but takes minutes per picture (`pace.measure_pace` measures it).
        dtype: a type of torch or its name, "float16"; default: float16 on a GPU, float32 elsewhere.
        download: download files that are not on this machine; `downloads.download_size` returns their size.
        t5: Stable Diffusion 3's largest text encoder, 9.5 GB: None uses it if it is there, True requires it, False
            leaves it out.
        safety_checker: the safety checker that some models ship: None uses it if there is one, True requires it, False
            leaves it out and warns.
        offload: keep on the GPU only the part that is computing (needs the package accelerate).
        slicing, tiling: decode the pictures of a batch one by one; decode a picture of more than 512 pixels a side in
            tiles, whose borders are blended.
        float8: keep the weights of the network's layers in 8 bits, and compute in `dtype` (`float8`).
        fast: compile the network and the decoder (`fast.accelerate`), which delays the first picture.
        parts_from: for a single file, a folder or a name on the hub in diffusers' format: its parts are used where the
            file has none (an autoencoder, text encoders, T5 with its tokenizer).
        vae: a .safetensors file with another autoencoder of the same family.
        prediction: for a single file that does not say what its network predicts (Stable Diffusion 2.x), "eps" or "v".
        preview_decoder: a TAESD for the latents of this model, as a .safetensors file, a folder, or a name in the hub's
            cache (`preview_decoders`): it draws the pictures of the steps in `record` and in the explorer.

    Raises:
        WeightsUnavailableError, NoGPUError: OSErrors that say what is missing and what to do.
        NotEnoughMemoryError: an OSError; before loading, if the weights alone do not fit on the GPU (`forecasts`).
        ValueError: for pickled weights, a folder that is not a pipeline, one with files or configurations that are not
            supported, weights that do not match the networks, or a device that does not exist.
    """
    if fast and offload:
        raise ValueError("fast keeps every part on the GPU, and offload moves parts away: choose one of them.")
    of_type = dtype_named(dtype) if isinstance(dtype, str) else dtype
    options: dict[str, Any] = {"parts_from": parts_from, "vae": vae, "prediction": prediction, "t5": t5}
    chosen = _device(device, model, options)
    if offload and chosen.type == "cpu":
        raise ValueError("offload moves parts from the CPU to a GPU while they compute: it needs a GPU.")
    if float8 and chosen.type == "mps":
        raise ValueError("Apple's GPUs have no type of 8 bits: leave float8 out, or load on the CPU.")
    options["safety_checker"] = safety_checker
    weights = _fetched(model, options) if download and model != MICRO else find_weights(model, **options)
    if weights.unchecked:
        warnings.warn(
            f"{weights.name} ships a safety checker; it is loaded without it, because safety_checker is False.",
            stacklevel=2,
        )
    of_type, tiny = of_type or usual_dtype(chosen), None
    if preview_decoder is not None:
        own = weights.configuration("vae")
        tiny = read_preview_decoder(preview_decoder, weights.family, own, of_type, chosen)
    check_room(weights, of_type, chosen, offload=offload, float8=float8)
    with enough_memory(f"loading {weights.name}"), torch_defaults():
        pipe = load_pipeline(weights, of_type)
        if float8:
            to_float8(getattr(pipe, weights.family.network))
        if offload:
            pipe.enable_model_cpu_offload(device=chosen)
        else:
            pipe.to(chosen)
    if slicing:
        pipe.vae.enable_slicing()
    if tiling:
        autoencoder.decode_in_tiles(pipe.vae, pixels_of(pipe.vae.config))
    loaded = of_pipeline(
        pipe, weights.family, weights.name, STAND_IN if weights.stand_in else LIVE, unchecked=weights.unchecked
    )
    loaded = replace(loaded, preview_decoder=tiny)
    return accelerate(loaded) if fast else loaded


@typed_arguments
def of_pipeline(pipe: Any, family: Family, name: str, label: str, *, unchecked: bool = False) -> StableDiffusion:
    """Wrap an existing pipeline of diffusers as a `StableDiffusion`, after checking its parts and its tokenizers.

    unchecked: whether the model ships a safety checker that was left out.
    Raises ValueError for another object than a pipeline of the family, and for parts that are not supported.
    """
    if type(pipe).__name__ not in family.pipelines:
        raise ValueError(
            f"pipe must be a pipeline of diffusers for {family.title} ({', '.join(family.pipelines)}); "
            f"got a {type(pipe).__name__}."
        )
    network = getattr(pipe, family.network)
    for part in (family.network, "vae") if family.drive is None else family.drive.parts:
        module = getattr(pipe, part)
        config = getattr(module, "config", {})
        check_part(part, type(module).__name__, config if isinstance(config, Mapping) else config.to_dict(), family)
    if family.drive is None:
        check_tokenizers(pipe, family.name, name)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if family.name in XL and pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast:
        pipe.vae.to(torch.float32)  # its activations overflow float16
    pipe.set_progress_bar_config(disable=True)
    device = pipe._execution_device  # read once: diffusers searches all parts for it, which takes milliseconds
    if family.drive is not None:
        return drive_pipeline(pipe, name, family, label, device)
    decode = partial(autoencoder.decode, pipe.vae, device)
    return StableDiffusion(name, family, pipe, label, device, network, decode, unchecked)


def _device(device: torch.device | str | None, model: str | os.PathLike[str], options: dict[str, Any]) -> torch.device:
    if device is not None:
        return choose_device(device)
    chosen = choose_device("auto")
    if chosen.type != "cpu":
        return chosen
    also = ""
    try:
        if find_weights(model, **options).family.suits_cpu:
            return chosen
    except WeightsUnavailableError as error:
        if model == MICRO:
            raise
        also = f"\n{error}"
    raise NoGPUError(
        'There is no GPU here. Stable Diffusion also runs on the CPU if you choose it (device="cpu", --device cpu), '
        f'in minutes per picture; "{MICRO}", a small model of emoji, takes seconds; a stand-in, with random weights, '
        f"runs everywhere.{also}"
    )


def _fetched(model: str | os.PathLike[str], options: dict[str, Any]) -> Weights:
    try:
        return find_weights(model, **options)
    except WeightsUnavailableError:
        if not is_repository(os.fspath(model)):
            raise
        fetch(os.fspath(model), t5=bool(options["t5"]), safety_checker=options["safety_checker"])
        return find_weights(model, **options)
