"""Compile a Stable Diffusion: fewer, larger kernels, replayed as CUDA graphs; every step is still yielded.

Only the network and the decoder are compiled. The sampler's few operations on the latents between two network
evaluations are not: a GPU runs them while the next evaluation is prepared.
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
    """Return the model with its network and decoder compiled; its results are the same up to rounding.

    The first step of each picture size and number of images waits for the compiler, half a minute or more. The weights
    are converted, in place, to the memory layout that is fast for convolutions on a GPU (channels_last).

    Args:
        backend: of torch.compile; "eager" and "aot_eager" compile nothing, and serve to test the code around.
        mode: of inductor: "reduce-overhead" (CUDA graphs), or "max-autotune", which also tries out kernels for minutes.
    """
    options = {"mode": mode} if backend == "inductor" else {}
    compiled = partial(torch.compile, backend=backend, dynamic=False, **options)
    for part in (model.network, model.pipe.vae):
        to_channels_last(part)
    network, through = _graphed(compiled(model.network)), _graphed(compiled(model.pipe.vae.decode))
    return replace(model, call=network, decode_call=partial(decode, model.pipe.vae, model.device, through=through))


def _graphed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a compiled function so that each call may overwrite the last call's outputs, which are copied by then."""

    def call(*args: Any, **options: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return function(*args, **options)

    return call
