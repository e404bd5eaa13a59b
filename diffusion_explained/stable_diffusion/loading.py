"""Load a Stable Diffusion from the hub's cache or a folder, or say at once why not."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch

from diffusion_explained.devices import choose_device
from diffusion_explained.stable_diffusion import latents as autoencoder
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.stable_diffusion.families import DEFAULT_MODEL, MICRO, Family
from diffusion_explained.stable_diffusion.fast import accelerate
from diffusion_explained.stable_diffusion.memory import enough_memory
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.weights import Weights, WeightsUnavailableError, fetch, find_weights

LIVE, STAND_IN = "live", "stand-in"


class NoGPUError(OSError):
    """There is no GPU, and a CPU was not asked for by name."""


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    *,
    download: bool = False,
    t5: bool | None = None,
    offload: bool = False,
    slicing: bool = False,
    tiling: bool = False,
    fast: bool = False,
) -> StableDiffusion:
    """A Stable Diffusion, by its name on the hub or by its folder in diffusers' format.

    What is missing is said within two seconds, before diffusers is imported: weights, network or GPU.

    Args:
        model: "owner/model", looked for in the hub's cache (Stable Diffusion 1.5 under its mirrors' names too), or
            "micro", this project's own small one, which travels with the package and needs no GPU.
        device: a GPU if it is not given; "cpu" works too, at minutes a picture (`StableDiffusion.seconds` measures).
        dtype: float16 on a GPU and float32 elsewhere, if it is not given.
        download: fetch what is not on this machine; `weights.download_size` tells how much that is.
        t5: Stable Diffusion 3's largest text encoder, 9.5 GB: if it is there (None), needed (True), or not (False).
        offload: keep on the GPU only the part that computes (needs accelerate).
        slicing, tiling: decode a batch one by one, a large picture in parts.
        fast: compile the network and the decoder (`fast.accelerate`), which takes a while at the first picture.

    Raises:
        WeightsUnavailableError, NoGPUError: OSErrors that say what is missing and what to do.
        ValueError: for pickled weights, a folder that is no pipeline, one that is not driven here, or no such device.
    """
    if fast and offload:
        raise ValueError("fast keeps everything on the GPU, and offload moves it away: choose one of them.")
    chosen = _device(device, model, t5)
    if offload and chosen.type == "cpu":
        raise ValueError("offload moves parts from the CPU to a GPU while they compute: it needs a GPU.")
    weights = _fetched(model, t5) if download and model != MICRO else find_weights(model, t5=t5)
    dtype = dtype or (torch.float16 if chosen.type == "cuda" else torch.float32)
    pipeline = getattr(diffusers(), weights.pipeline)
    options: dict[str, Any] = {part: None for part in weights.left_out}
    if weights.family.name == "sd" and "safety_checker" not in weights.parts:
        options["requires_safety_checker"] = False
    with enough_memory(f"loading {weights.name}"):
        pipe = pipeline.from_pretrained(
            weights.folder,
            dtype=dtype,
            variant="fp16" if weights.wants_float16(dtype == torch.float32) else None,  # of each part that offers it
            use_safetensors=True,
            local_files_only=True,
            **options,
        )
        if offload:
            pipe.enable_model_cpu_offload(device=chosen)
        else:
            pipe.to(chosen)
    if slicing:
        pipe.vae.enable_slicing()
    if tiling:
        pipe.vae.enable_tiling()
    model = of_pipeline(pipe, weights.family, weights.name, STAND_IN if weights.stand_in else LIVE)
    return accelerate(model) if fast else model


def of_pipeline(pipe: Any, family: Family, name: str, label: str) -> StableDiffusion:
    """A pipeline of diffusers, already made, as a `StableDiffusion`."""
    network = getattr(pipe, family.network)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if pipe.vae.dtype == torch.float16 and pipe.vae.config.force_upcast and family.name == "sdxl":
        pipe.vae.to(torch.float32)  # its activations overflow float16
    pipe.set_progress_bar_config(disable=True)
    device = pipe._execution_device  # asked once: diffusers looks through all parts for it, which takes milliseconds
    return StableDiffusion(name, family, pipe, label, device, network, partial(autoencoder.decode, pipe.vae, device))


def _device(device: str | None, model: str | os.PathLike[str], t5: bool | None) -> torch.device:
    if device is not None:
        return choose_device(device)
    chosen = choose_device("auto")
    if chosen.type != "cpu":
        return chosen
    also = ""
    try:
        if find_weights(model, t5=t5).family.suits_cpu:
            return chosen
    except WeightsUnavailableError as error:
        if model == MICRO:
            raise
        also = f"\n{error}"
    raise NoGPUError(
        'There is no GPU here. Stable Diffusion also runs on the CPU when it is asked to by name (device="cpu", '
        f'--device cpu), at minutes a picture; "{MICRO}", small and of emoji, takes seconds; a stand-in runs '
        f"everywhere, with random weights.{also}"
    )


def _fetched(model: str | os.PathLike[str], t5: bool | None) -> Weights:
    try:
        return find_weights(model, t5=t5)
    except WeightsUnavailableError:
        fetch(os.fspath(model), t5=bool(t5))
        return find_weights(model, t5=t5)
