"""Compile a Stable Diffusion: fewer, larger kernels, replayed as CUDA graphs; every step is still yielded.

The network, the decoder and Stable Diffusion 1.x's text encoder are compiled. The sampler's few operations on the
latents between two network evaluations are not: a GPU runs them while the next evaluation is prepared. A U-Net is
compiled with joined products (`fast_unet`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from diffusion_explained.devices import to_channels_last
from diffusion_explained.stable_diffusion.fast_unet import JoinedUNet, can_join
from diffusion_explained.stable_diffusion.latents import decode
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.pipeline_model import PipelineModel


def accelerate(
    model: StableDiffusion, *, backend: str = "inductor", mode: str = "reduce-overhead", join: bool = True
) -> StableDiffusion:
    """Return the model with its network and decoder compiled; its results are the same up to rounding.

    The first step of each picture size and number of images waits for the compiler, half a minute or more. The weights
    are converted, in place, to the memory layout that is fast for convolutions on a GPU (channels_last).

    Args:
        backend: of torch.compile; "eager" and "aot_eager" compile nothing, and serve to test the code around.
        mode: of inductor: "reduce-overhead" (CUDA graphs), or "max-autotune", which also tries out kernels for minutes.
        join: compute a U-Net with joined products (`fast_unet.JoinedUNet`), where it can be.

    Raises ValueError for a model with image prompts, whose attention is not compiled.
    """
    if model.image_prompts:
        raise ValueError("A compiled model takes no image prompt: use the model without it, or do not compile it.")
    options = {"mode": mode} if backend == "inductor" else {}
    compiled = partial(torch.compile, backend=backend, dynamic=False, **options)
    for part in (model.network, model.pipe.vae):
        to_channels_last(part)
    network = JoinedUNet(model.network) if join and can_join(model.network) else model.network
    call = Graphed(compiled(network), getattr(network, "shares_sides", False))
    if model.family.name == "sd":  # the other families read the activations between the layers, too
        encoder = getattr(model.pipe.text_encoder, "text_model", model.pipe.text_encoder).encoder
        encoder.forward = Graphed(compiled(encoder.forward))
    if isinstance(model, PipelineModel):  # its pipeline decodes
        return replace(model, call=call, driver=replace(model.driver, call=call))
    through = Graphed(compiled(model.pipe.vae.decode))
    return replace(model, call=call, decode_call=partial(decode, model.pipe.vae, model.device, through=through))


@dataclass(frozen=True)
class Graphed:
    """A compiled function whose each call may overwrite the last call's outputs, which are copied by then.

    shares_sides: whether it takes x once for both sides of guidance (`fast_unet.JoinedUNet`).
    """

    function: Callable[..., Any]
    shares_sides: bool = False

    def __call__(self, *args: Any, **options: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return self.function(*args, **options)
