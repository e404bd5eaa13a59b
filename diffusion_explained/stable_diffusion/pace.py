"""How long a run will take here: measured once per loaded model, on a few steps of a small picture."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.recording import record

SIDE = 256  # pixels of what is measured
READINGS = 3


@dataclass(frozen=True)
class Pace:
    """Seconds of one guided step of one SIDE x SIDE picture, its predicted x_0 decoded."""

    seconds: float

    def estimate(self, num_inference_steps: int, batch_size: int, height: int, width: int, sampler: str) -> float:
        """About how long `record` will take: as the pixels and images. Large pictures take a little longer still."""
        looks = 2 if sampler == "heun" else 1
        return self.seconds * num_inference_steps * looks * batch_size * height * width / SIDE**2


def measure_pace(model: StableDiffusion) -> Pace:
    """Run recorded steps: the first warms up, the others' median is the pace. Raises NotEnoughMemoryError."""
    marks: list[float] = []
    # painting a grey picture anew is what every model can do, also one that was trained to inpaint
    place: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
    grey, everywhere = torch.zeros(3, SIDE, SIDE, **place), torch.ones(SIDE, SIDE, **place)
    record(
        model, "", image=grey, mask=everywhere, num_inference_steps=1 + READINGS,
        progress=lambda step: marks.append(time.perf_counter()),
    )  # fmt: skip
    return Pace(statistics.median(after - before for before, after in pairwise(marks)))
