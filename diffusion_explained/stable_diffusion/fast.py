"""The same Stable Diffusion, compiled: fewer, larger kernels, replayed as CUDA graphs, and every step still yielded.

Only the network and the decoder are compiled. What the sampler does between two calls of the network stays as it is
written: a few operations on the latents, which a GPU does while the next call is prepared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from diffusion_explained.devices import to_channels_last
from diffusion_explained.stable_diffusion.latents import decode
from diffusion_explained.stable_diffusion.model import StableDiffusion


def accelerate(model: StableDiffusion, *, backend: str = "inductor", mode: str = "reduce-overhead") -> StableDiffusion:
    """The model with its network and decoder compiled; it computes the same, to rounding.

    The first step of each picture size and number of images waits for the compiler, half a minute and more. The
    weights are laid out as a GPU's convolutions like them (channels_last), in place.

    Args:
        backend: of torch.compile; "eager" and "aot_eager" compile nothing, and test what is around.
        mode: inductor's: "reduce-overhead" (CUDA graphs), or "max-autotune", which also tries kernels for minutes.
    """
    options = {"mode": mode} if backend == "inductor" else {}
    compiled = partial(torch.compile, backend=backend, dynamic=False, **options)
    for part in (model.network, model.pipe.vae):
        to_channels_last(part)
    network, through = _graphed(compiled(model.network)), _graphed(compiled(model.pipe.vae.decode))
    return replace(model, call=network, decode_call=partial(decode, model.pipe.vae, model.device, through=through))


def _graphed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, told at each call that its last outputs may be overwritten: they have been copied by then."""

    def call(*args: Any, **options: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return function(*args, **options)

    return call
