"""Estimate how long a run will take on this machine, from a few measured steps of a small picture."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from diffusion_explained.checks import typed_arguments
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.recording import record

SIDE = 256  # pixels along a side of the measured picture, at most
READINGS = 3


@dataclass(frozen=True)
class Pace:
    """Seconds per guided step of one picture of SIDE x SIDE pixels, including decoding its predicted x_0."""

    seconds: float

    def estimate(self, num_inference_steps: int, batch_size: int, height: int, width: int, sampler: str) -> float:
        """Roughly how many seconds `record` will take: proportional to network evaluations, images and pixels.

        Large pictures take slightly longer than this.
        """
        evaluations = 2 if sampler == "heun" else 1  # per step
        return self.seconds * num_inference_steps * evaluations * batch_size * height * width / SIDE**2


@typed_arguments
def measure_pace(model: StableDiffusion) -> Pace:
    """Run a few recorded steps: the first warms up, the median of the others is the pace.

    The picture is as large as those that the network was trained on, and at most SIDE x SIDE.

    Raises NotEnoughMemoryError.
    """
    marks: list[float] = []
    given: dict[str, Any] = {}
    height, width = (min(SIDE, own) for own in model.defaults.size or (SIDE, SIDE))
    if model.family.drive is None:
        # inpainting a whole grey picture works with every model, including those that were trained to inpaint
        place: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
        given = {"image": torch.zeros(3, height, width, **place), "mask": torch.ones(height, width, **place)}
    else:
        try:
            model.latent_shape(height, width)
        except ValueError:  # this pipeline draws at fixed sizes only
            height, width = model.trained_size
        given = {"height": height, "width": width}
    record(
        model, "", **given, num_inference_steps=1 + READINGS, progress=lambda step: marks.append(time.perf_counter())
    )
    seconds = statistics.median(after - before for before, after in pairwise(marks))
    return Pace(seconds * SIDE**2 / (height * width))
