"""What each of several regional prompts predicts: recorded at each step, and as a film for the scrubber.

recorded = RecordedRegions(regional(model, prompts, masks, start=start))
for step in model.steps(recorded, seed=0):
    recorded.after(step)
recorded.pictures(model)                # per prompt [steps, 3, H, W]: the whole picture that it predicts
recorded.spread()                       # [steps, K]: how far the predictions are apart in each region
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import same_shape, typed_arguments
from diffusion_explained.denoisers import Prediction
from diffusion_explained.film import Film, film, level_caption, pixels
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion.image_films import decoded_latents
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.regions import RegionalDenoiser
from diffusion_explained.stable_diffusion.trace_films import ending, step_chart, step_curve

GREY, FADED = 0.35, 0.75  # what lies outside a prompt's region is mixed with this grey, in this share


@dataclass
class RecordedRegions:
    """A denoiser of several regions (`regional`) that keeps what each prompt predicts; it mixes them as before.

    x_0: the predicted x_0 of all K prompts at each step that was kept, [K, B, ...], on the CPU.
    """

    denoise: RegionalDenoiser
    x_0: list[Tensor] = field(default_factory=list)
    _last: Tensor | None = field(default=None, repr=False)

    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The mixed prediction at x_t [B, ...]."""
        predictions = [part(x_t, level) for part in self.denoise.parts]
        self._last = torch.stack([each.x_0 for each in predictions]).cpu()
        return self.denoise.mixed(predictions)

    def after(self, step: Step) -> None:
        """Keep the predictions of this step; for a step with two network evaluations (Heun's), those of the second.

        Raises ValueError if the denoiser was not called since the last step that was kept.
        """
        if self._last is None:
            raise ValueError(
                "The denoiser was not called since the last step: call after(step) once for each step, right after it."
            )
        self.x_0.append(self._last)
        self._last = None

    def pictures(self, model: StableDiffusion, image: int = 0) -> list[Tensor]:
        """The whole picture that each prompt predicts for one image at each step: for each prompt [steps, 3, H, W]."""
        return [decoded_latents(model, rows) for rows in torch.stack(self.x_0, dim=1)[:, :, image]]

    def spread(self, image: int = 0) -> Tensor:
        """How far the prompts' predictions of x_0 are apart in each region, [steps, K].

        The standard deviation over the prompts, root mean square over the channels and the region's positions.
        """
        deviations = torch.stack([x_0[:, image].float().var(0, correction=0).mean(0) for x_0 in self.x_0])  # [n, h, w]
        shares = self.denoise.shares[:, 0, 0].to(deviations)  # [K, h, w]
        total = shares.sum((1, 2)).clamp(min=1e-12)
        return (torch.einsum("nhw,khw->nk", deviations, shares) / total).sqrt()


@typed_arguments
def region_film(
    plain: Tensor,
    mixed: Tensor,
    steps: Sequence[Step],
    recorded: RecordedRegions,
    pictures: Sequence[Tensor],
    image: int = 0,
) -> Film:
    """A film of a run with one prompt beside the same run with several regions, and of what each prompt predicts.

    plain, mixed: pictures [n + 1, 3, H, W]: the predicted x_0 at each of n steps, and the result; steps: of the run
    with regions; pictures: of `RecordedRegions.pictures`, in which what lies outside a prompt's region is faded.

    Raises ValueError for pictures of different shapes.
    """
    same_shape("plain and mixed", plain, mixed)
    panels = [
        ("one prompt", "the picture by one prompt: predicted at each step, then the result", list(pixels(plain))),
        ("a prompt for each region", "the same noise with a prompt for each region", list(pixels(mixed))),
    ]
    shares = recorded.denoise.shares[:, 0]  # [K, 1, h, w]
    for k, (rows, share) in enumerate(zip(pictures, shares, strict=True), 1):
        alt = f"the whole picture that prompt {k} predicts, grey where it has no share"
        panels.append((f"prompt {k} alone", alt, _faded(torch.cat([rows, rows[-1:]]), share)))
    spread = recorded.spread(image)
    colours = ("data", "noise")
    curves = [
        step_curve(column, colours[k % len(colours)], f"in region {k + 1}")
        for k, column in enumerate(spread.T.tolist())
    ]
    alt = "the standard deviation of the prompts' predictions in each region, at each step"
    chart = step_chart("how far the prompts' predictions are apart", alt, curves, range(len(steps)))
    captions = [*(level_caption(k, step.level, len(steps)) for k, step in enumerate(steps)), ending(len(steps))]
    return film(panels, captions, rows=(2, len(panels) - 2), charts=[chart])


def _faded(pictures: Tensor, share: Tensor) -> list[np.ndarray]:
    """Pictures [n, 3, H, W] as bytes, mixed with grey where the share [1, h, w] is small."""
    here = F.interpolate(share[None].to(pictures), tuple(pictures.shape[2:]), mode="nearest")
    kept = 1 - FADED * (1 - here)
    return list(pixels(kept * pictures + (1 - kept) * GREY))
