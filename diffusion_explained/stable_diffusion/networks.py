"""An adapter from a pipeline's U-Net or transformer to the networks of `NetworkDenoiser`: network(x, t, cond).

The condition is what the network reads of a prompt: the tuple of tensors that `text.Text.conditions` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.devices import torch_defaults
from diffusion_explained.stable_diffusion.control import Control, sum_of_residuals
from diffusion_explained.stable_diffusion.families import XL
from diffusion_explained.stable_diffusion.image_attention import ActivePrompt
from diffusion_explained.stable_diffusion.latents import dtype_of
from diffusion_explained.stable_diffusion.text import Text


@dataclass(frozen=True)
class PromptedNetwork:
    """`call`, the network of a pipeline, called as network(x, t, cond) with the condition of a text.

    family: the family whose arguments the network takes; dtype: that of its weights. The output is float32, in which
    samplers compute.
    channels [B, 5, h, w]: mask and masked picture for a network that was trained to inpaint, or None; pixels: picture
    pixels per latent pixel, for Stable Diffusion XL, which takes the picture's size as an input; guidance [1, D]: the
    embedded guidance scale for a network that takes it as an input (a latent consistency model); controls: the
    ControlNets whose residuals are added (`control`); image_prompts: the adapters whose image tokens are the last
    tensors of a condition (`image_attention`).

    A LoRA changes the weights themselves (`lora`).
    """

    call: Callable[..., Any]
    family: str
    dtype: torch.dtype
    channels: Tensor | None = None
    pixels: int = 8
    guidance: Tensor | None = None
    controls: tuple[Control, ...] = ()
    image_prompts: tuple[ActivePrompt, ...] = ()

    @property
    def shares_sides(self) -> bool:
        """Whether `call` takes x once for both sides of guidance; ControlNets take it for each."""
        return getattr(self.call, "shares_sides", False) and not self.controls

    @torch_defaults()  # for the tensors that diffusers creates
    def __call__(self, x: Tensor, t: Tensor, cond: tuple[Tensor, ...]) -> Tensor:
        """The raw output for x [N, C, h, w] at times t [N], with the embeddings [N, L, D], and pooled [N, P], of cond.

        N is B, or with guidance 2B: the B images once without the prompt and once with it. With `shares_sides`
        x and t are [B] and the embeddings [2B].
        """
        words = len(cond) - len(self.image_prompts)
        named = self.arguments(x, t, *cond[:words])
        named |= sum_of_residuals(self.controls, x.to(self.dtype), named)
        if self.image_prompts:
            shown = list(zip(self.image_prompts, cond[words:], strict=True))
            named["cross_attention_kwargs"] = {"image_prompts": shown}
        if self.channels is not None:
            x = torch.cat([x, self.channels.repeat(len(x) // len(self.channels), 1, 1, 1)], dim=1)
        output = self.call(x.to(self.dtype), **named, return_dict=False)[0]
        # a copy, even if the dtype is right already: CUDA graphs write the next output into the same memory
        return output.to(torch.float32, copy=True)

    def arguments(
        self, x: Tensor, t: Tensor, embeds: Tensor, pooled: Tensor | None = None, score: Tensor | None = None
    ) -> dict[str, Any]:
        """The network's arguments besides x, by name.

        x [N, C, h, w], t [N], embeds [N, L, D], pooled [N, P], score [N] for the refiner of Stable Diffusion XL.
        """
        named: dict[str, Any] = {"timestep": t, "encoder_hidden_states": embeds}
        if self.guidance is not None:
            named["timestep_cond"] = self.guidance.expand(len(x), -1)
        if self.family == "sd3":
            named["pooled_projections"] = pooled
        if self.family in XL:
            size = (x.shape[2] * self.pixels, x.shape[3] * self.pixels)
            named["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": _time_ids(size, embeds, score)}
        return named


def _time_ids(size: tuple[int, int], embeds: Tensor, score: Tensor | None) -> Tensor:
    """(original size, top left corner of the crop, target size) [N, 6], for uncropped pictures (SDXL, Sec. 2.2).

    score [N]: for the refiner, which takes it in the place of the target size: [N, 5].
    embeds [N, L, D] gives N, the device and the dtype.
    """
    numbers = (*size, 0, 0, *(size if score is None else ()))
    columns = [torch.full((len(embeds), 1), n, device=embeds.device, dtype=embeds.dtype) for n in numbers]
    return torch.cat(columns if score is None else [*columns, score[:, None]], dim=1)


def embedded_guidance(pipe: Any, name: str, scale: float, text: Text, options: Mapping[str, Any]) -> Tensor:
    """The sinusoidal embedding of w - 1, [1, D], in the network's dtype (Luo et al. 2023, Sec. 4.2), as in diffusers.

    scale: w; text, options: of the denoiser of the model `name`, whose pipeline is `pipe`.

    Raises ValueError for a negative prompt and for options of guidance by two passes.
    """
    if any(text.negative or ()):
        raise ValueError(f"{name} takes the guidance scale as an input and has no negative side: leave negative out.")
    if options.get("guidance_interval") is not None or options.get("guidance_rescale"):
        raise ValueError(
            f"{name} takes the guidance scale as an input, in one pass: leave out guidance_interval and "
            "guidance_rescale."
        )
    embedded = pipe.get_guidance_scale_embedding(
        torch.tensor([scale - 1.0], dtype=torch.float32, device="cpu"),
        embedding_dim=pipe.unet.config.time_cond_proj_dim,
    )
    return embedded.to(dtype_of(pipe.unet))
