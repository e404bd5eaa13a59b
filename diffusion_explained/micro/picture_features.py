"""What an image prompt of micro reads of a picture: the retrieval network's channels, over the whole and 16 parts.

    encoder = PictureEncoder(load_retrieval())
    embeds = encoder(pictures)                      # [B, 3, 128, 128] in [-1, 1] to [B, 17, 1073]

Each of the 17 rows holds the mean and the deviation of all 528 channels of the retrieval network's five feature maps
over one area, and says which area it is. The first row is of the whole picture, and so of its style: means and
deviations of channels are what Gatys et al. 2016 and Huang et al. 2017 (AdaIN) take for style. The others are of 4 x 4
parts, row by row, and say what is where. Published adapters read CLIP instead, which is 170 times as large.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import image_batch
from diffusion_explained.devices import torch_defaults
from diffusion_explained.micro.retrieval import SIDE, Retrieval

PARTS = 4  # along a side
AREAS = 1 + PARTS**2
LEAST_SPREAD = 1e-3  # of a feature: one that hardly varies over pictures is not blown up


class PictureEncoder(nn.Module):
    """Pictures [B, 3, 128, 128] in [-1, 1] to embeddings [B, 17, E].

    centre, spread: [17, E - 17], the mean and deviation of each feature over pictures, by which they are standardised:
    an embedding of zeros is the mean picture's, and stands for no picture.
    """

    centre: Tensor
    spread: Tensor

    @torch_defaults()
    def __init__(self, retrieval: Retrieval) -> None:
        super().__init__()
        self.retrieval = retrieval
        channels = sum(retrieval.config["widths"])
        self.register_buffer("centre", torch.zeros(AREAS, 2 * channels, device="cpu", dtype=torch.float32))
        self.register_buffer("spread", torch.ones(AREAS, 2 * channels, device="cpu", dtype=torch.float32))

    @property
    def width(self) -> int:
        """E, of an embedding: two numbers for each channel, and which of the areas it is."""
        return self.centre.shape[1] + AREAS

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """The means and deviations, [B, 17, E - 17], not standardised. Raises ValueError for another shape."""
        image_batch("pictures", pictures, 3)
        if tuple(pictures.shape[2:]) != (SIDE, SIDE):
            size = " x ".join(map(str, pictures.shape[2:]))
            raise ValueError(f"A reference picture is {SIDE} x {SIDE} pixels; got {size}: resize it.")
        maps = self.retrieval.image.feature_maps(pictures.to(self.centre.device).float())
        rows = []
        for side in (1, PARTS):
            means = [F.adaptive_avg_pool2d(x, side) for x in maps]
            squares = [F.adaptive_avg_pool2d(x.square(), side) for x in maps]
            deviations = [(s - m.square()).clamp(min=0).sqrt() for s, m in zip(squares, means, strict=True)]
            rows.append(torch.cat([*means, *deviations], dim=1).flatten(2))
        return torch.cat(rows, dim=2).transpose(1, 2)

    def standardise(self, features: Tensor) -> None:
        """Take centre and spread from the features [N, 17, E - 17] of N pictures."""
        self.centre.copy_(features.float().mean(0))
        self.spread.copy_(features.float().std(0).clamp(min=LEAST_SPREAD))

    def embeds(self, features: Tensor) -> Tensor:
        """Embeddings [B, 17, E] of features [B, 17, E - 17]."""
        standard = (features.float() - self.centre) / self.spread
        where = torch.eye(AREAS, device=standard.device, dtype=standard.dtype).expand(len(standard), -1, -1)
        return torch.cat([standard, where], dim=2)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.embeds(self.features(pictures))

    def negative(self, embeds: Tensor) -> Tensor:
        """The embeddings [B, 17, E] of no picture, for the side of guidance without the prompt: zeros, as diffusers."""
        return torch.zeros_like(embeds)
