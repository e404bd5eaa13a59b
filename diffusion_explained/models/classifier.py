"""A small residual classifier: it measures samples, and its features are the space in which samples are compared.

It is the nine-layer ResNet of the DAWNBench benchmark ("ResNet-9": D. Page, "How to Train Your ResNet", 2018), scaled
down: a convolution, then stages that each add channels and halve the resolution, with residual blocks in the first and
the last stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import torch_defaults
from diffusion_explained.tables import check_sizes


@named_options
@dataclass(frozen=True)
class ClassifierConfig:
    """The configuration of a classifier, stored in its weight file.

    `patch_size` p folds p x p pixels into channels before the first convolution. `widths` are the channels of that
    convolution and of each stage after it; every stage halves the resolution. Digits need (32, 64, 128) at p = 2;
    ResNet-9 for CIFAR-10 is (64, 128, 256, 512) at p = 1. `logit_scale` multiplies the logits: with 1/8 the last
    layer can be trained at the high learning rate that suits the convolutions (Page, part 2).

    Raises ValueError for a setting out of range.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    patch_size: int = 2
    widths: tuple[int, ...] = (32, 64, 128)
    num_classes: int = 10
    logit_scale: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(self)
        if not 0 < self.logit_scale <= 1000:
            raise ValueError(f"logit_scale must be above 0, at most 1000; got {self.logit_scale}.")


class Classifier(nn.Module):
    """`classifier(x)`: images [B, C, H, W] in [-1, 1] -> logits [B, num_classes].

    `classifier.features(x)` is the vector [B, widths[-1]] of which the logits are a linear function.

    Raises ValueError for a configuration whose stages would shrink its images to nothing.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    card: dict[str, Any]  # set by `load_classifier`: how the network was trained, and its measured accuracy

    @typed_arguments
    @torch_defaults()
    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        channels, height, width = config.image_shape
        shrink = config.patch_size * 2 ** (len(config.widths) - 1)
        if len(config.widths) < 2 or height % config.patch_size or width % config.patch_size:
            raise ValueError(f"a classifier has two widths or more and whole patches; got {config}")
        if min(height, width) < shrink:
            raise ValueError(f"{height} x {width} images vanish when they shrink {shrink} times; got {config}")
        self.config = config
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape

        self.stem = convolution(channels * config.patch_size**2, config.widths[0])
        self.stages = nn.ModuleList()
        last = len(config.widths) - 1
        for stage in range(1, len(config.widths)):
            layers = [convolution(config.widths[stage - 1], config.widths[stage]), nn.MaxPool2d(2)]
            if stage in (1, last):
                layers.append(Residual(config.widths[stage]))
            self.stages.append(nn.Sequential(*layers))
        self.head = nn.Linear(config.widths[-1], config.num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The features of each image [B, widths[-1]]: each channel's largest response anywhere in the image."""
        # comments give the shapes for a 28 x 28 digit
        h = self.stem(F.pixel_unshuffle(x, self.config.patch_size))  # [B, 32, 14, 14]
        for stage in self.stages:
            h = stage(h)  # [B, 64, 7, 7], [B, 128, 3, 3]
        return h.amax(dim=(2, 3))  # [B, 128]

    def logits(self, features: Tensor) -> Tensor:
        """The logits [B, num_classes] of features [B, widths[-1]]."""
        return self.config.logit_scale * self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))


class Residual(nn.Module):
    """Two convolutions whose output is added to their input. x [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(width, width), convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def convolution(in_width: int, out_width: int) -> nn.Sequential:
    """A 3 x 3 convolution, batch norm and ReLU: [B, in_width, H, W] -> [B, out_width, H, W]."""
    return nn.Sequential(
        nn.Conv2d(in_width, out_width, 3, padding=1, bias=False),  # the norm has its own bias
        nn.BatchNorm2d(out_width),
        nn.ReLU(inplace=True),
    )
