"""ControlNet: a trainable copy of a U-Net's encoder that reads a picture of lines or areas (Zhang et al. 2023).

The U-Net F stays as it is. Its encoder's copy reads the same x_t, time and text, and the picture c through a small
stem; what each of its blocks gives passes a 1 x 1 convolution Z whose weights start at zero, and is added to the skip
connection of the same block of the U-Net:

    y_c = F(x; theta) + Z(F(x + Z(c; theta_1); theta_c); theta_2)                                         (Eq. 2)

At the start every Z is zero, so y_c = y and training begins from the U-Net's own pictures. Yet the gradient of Z's
weight is the block's output, which is not zero (Sec. 3.2), so Z opens at the first step, and then the copy learns.

    network = ControlNet(unet)                                       # theta_c is a copy of theta, every Z is zero
    skips, middle = network(x_t, t, embeds, picture)                 # picture: float [B, 3, 128, 128] in [0, 1]
    output = unet(x_t, t, embeds, down_block_additional_residuals=skips, mid_block_additional_residual=middle)

The names of the weights are those of diffusers' ControlNetModel, which computes the same (a test compares the two).
For its size (6 MB), micro's own ControlNet has only the first residual block of the U-Net's middle block
(`whole_middle=False`), and a stem that is narrower than Stable Diffusion's.
"""

from __future__ import annotations

import copy
import inspect
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import typed_arguments
from diffusion_explained.devices import torch_defaults
from diffusion_explained.files import atomic_folder
from diffusion_explained.micro.networks import in_fp16
from diffusion_explained.stable_diffusion.backend import diffusers

STEM = (16, 32, 64, 96)  # channels of the stem at 128, 64, 32 and 16 pixels along a side


def zero_convolution(channels_in: int, channels_out: int, size: int = 1) -> nn.Conv2d:
    """A convolution whose weights and bias are zero at the start: Z in Eq. 2."""
    conv = nn.Conv2d(channels_in, channels_out, size, padding=size // 2)
    for weight in conv.parameters():
        nn.init.zeros_(weight)
    return conv


class Stem(nn.Module):
    """From the control picture [B, 3, 8h, 8w] to the channels of the encoder's first layer, [B, C, h, w]."""

    def __init__(self, channels: int, widths: tuple[int, ...] = STEM, picture_channels: int = 3) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(picture_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.Conv2d(narrow, wide, 3, padding=1, stride=2)]
        self.conv_out = zero_convolution(widths[-1], channels, 3)

    def forward(self, picture: Tensor) -> Tensor:
        h = F.silu(self.conv_in(picture))
        for conv in self.blocks:
            h = F.silu(conv(h))
        return self.conv_out(h)


class ControlNet(nn.Module):
    """The copy of a U-Net's encoder with its stem and its zero convolutions.

    unet: a UNet2DConditionModel conditioned on a text alone, as Stable Diffusion 1.x and micro have; it is not changed.
    whole_middle: copy the U-Net's whole middle block, as the paper does; otherwise its first residual block alone.

    Raises ValueError for a network of another class.
    """

    conv_in: Any
    time_proj: Any
    time_embedding: Any
    down_blocks: Any
    mid_block: Any

    @torch_defaults()
    def __init__(self, unet: Any, stem: tuple[int, ...] = STEM, *, whole_middle: bool = True) -> None:
        super().__init__()
        self.config = _config(unet, stem, whole_middle)
        for name in ("conv_in", "time_proj", "time_embedding", "down_blocks", "mid_block"):
            setattr(self, name, copy.deepcopy(getattr(unet, name)))
        if not whole_middle:
            self.mid_block.resnets, self.mid_block.attentions = self.mid_block.resnets[:1], nn.ModuleList()
        skips = skip_channels(unet)
        self.controlnet_cond_embedding = Stem(skips[0], stem)
        self.controlnet_down_blocks = nn.ModuleList(zero_convolution(c, c) for c in skips)
        self.controlnet_mid_block = zero_convolution(skips[-1], skips[-1])
        self.requires_grad_(True)

    def forward(self, x_t: Tensor, t: Tensor, embeds: Tensor, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """What is added to the U-Net's skip connections, each [B, C_i, h_i, w_i], and to its middle block's output.

        x_t [B, 4, h, w], times t [B], embeds [B, L, D], picture [B, 3, 8h, 8w] in [0, 1].
        """
        return self.added(self.hidden(x_t, t, embeds, picture))

    def hidden(self, x_t: Tensor, t: Tensor, embeds: Tensor, picture: Tensor) -> list[Tensor]:
        """What the copied layers give, one [B, C_i, h_i, w_i] for each skip connection, and then the middle block."""
        time = self.time_embedding(self.time_proj(t).to(x_t.dtype))
        h = self.conv_in(x_t) + self.controlnet_cond_embedding(picture)
        found = [h]
        for block in self.down_blocks:
            text = {"encoder_hidden_states": embeds} if getattr(block, "has_cross_attention", False) else {}
            h, own = block(h, time, **text)
            found += own
        return [*found, self.mid_block(h, time, encoder_hidden_states=embeds)]

    def added(self, hidden: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """What the zero convolutions make of the hidden layers [B, C_i, h_i, w_i]: see `forward`."""
        skips = [zero(each) for zero, each in zip(self.controlnet_down_blocks, hidden[:-1], strict=True)]
        return skips, self.controlnet_mid_block(hidden[-1])

    def openings(self) -> dict[str, float]:
        """How far each zero convolution has opened: the norm of its weight, sqrt(sum w^2), by the name of its place."""
        zeros: dict[str, Any] = {"stem": self.controlnet_cond_embedding.conv_out}
        zeros |= {f"skip {i}": zero for i, zero in enumerate(self.controlnet_down_blocks)}
        zeros["middle"] = self.controlnet_mid_block
        return {name: zero.weight.detach().float().norm().item() for name, zero in zeros.items()}


def skip_channels(unet: Any) -> list[int]:
    """The channels of the U-Net's skip connections, from its first layer down."""
    channels = [unet.conv_in.out_channels]
    for block in unet.down_blocks:
        channels += [resnet.out_channels for resnet in block.resnets]
        channels += [layer.out_channels for layer in block.downsamplers or ()]
    return channels


def _config(unet: Any, stem: tuple[int, ...], whole_middle: bool) -> dict[str, Any]:
    """The configuration of diffusers' ControlNetModel for this U-Net. Raises ValueError for another network."""
    if type(unet).__name__ != "UNet2DConditionModel":
        raise ValueError(
            f"unet must be a UNet2DConditionModel, the network of a loaded model; got a {type(unet).__name__}."
        )
    known = inspect.signature(diffusers().ControlNetModel.__init__).parameters
    config = {key: value for key, value in unet.config.items() if key in known}
    config["conditioning_embedding_out_channels"] = tuple(stem)
    if not whole_middle:
        config["mid_block_type"] = "UNetMidBlock2D"
    return config


def as_diffusers(network: ControlNet) -> Any:
    """The same network as diffusers' ControlNetModel, with copies of the weights."""
    model = diffusers().ControlNetModel(**network.config)
    model.load_state_dict(network.state_dict())
    return model.eval()


@typed_arguments
def save_control(folder: str | os.PathLike[str], network: nn.Module) -> Path:
    """Write a `ControlNet` to a folder in the format of diffusers' ControlNetModel, its weights fp16 safetensors.

    Raises ValueError for weights that fp16 cannot represent; NotWrittenError (an OSError) if the folder cannot be
    written: then its older files stay.
    """
    if not isinstance(network, ControlNet):
        raise ValueError(f"network must be a ControlNet of this package; got a {type(network).__name__}.")
    half = in_fp16("the ControlNet", as_diffusers(network))
    with atomic_folder(Path(folder)) as part:
        half.save_pretrained(part, safe_serialization=True)
    return Path(folder)


__all__ = ["STEM", "ControlNet", "Stem", "as_diffusers", "save_control", "skip_channels", "zero_convolution"]
