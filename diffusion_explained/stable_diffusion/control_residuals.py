"""What ControlNets add to a U-Net: recorded at each step and place, and as a film for the scrubber.

    with record_residuals(model) as residuals:                # of a model from `load_control`
        for step in model.steps(text, control=picture, seed=0):
            residuals.after(step)
    residuals.maps()                        # {place: [steps, h_i, w_i]}, the root mean square over the channels
    residuals.shares()                      # [steps, places]: ||residual|| / ||what it is added to||

The places are those of the zero convolutions (`micro.control.ControlNet`): the skip connections from the first layer
down, and the middle block. The networks are observed by hooks: what they compute stays the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import same_shape, typed_arguments
from diffusion_explained.film import Film, film, level_caption, pixels
from diffusion_explained.samplers import Step
from diffusion_explained.stable_diffusion.image_films import heat_over
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.trace_films import ending, step_chart, step_curve


@dataclass
class RecordedResiduals:
    """The residuals of a run, on the CPU; of guidance only the side with the prompt is kept.

    steps: for each step the residual of each place, root mean square over the channels, [images, h_i, w_i]; ratios:
    for each step [images, places], the norm of the residual relative to that of what it is added to.
    """

    steps: list[dict[str, Tensor]] = field(default_factory=list)
    ratios: list[Tensor] = field(default_factory=list)
    _given: list[list[Tensor]] = field(default_factory=list, repr=False)  # of each ControlNet, before the U-Net's call
    _added: list[list[Tensor]] = field(default_factory=list, repr=False)  # the same, of the U-Net's last call
    _own: list[Tensor] = field(default_factory=list, repr=False)  # what the U-Net's last call itself computed

    def after(self, step: Step) -> None:
        """Keep the residuals of this step; for a step with two network evaluations (Heun's), those of the second.

        Raises ValueError if the network was not called since the last step that was kept.
        """
        if not self._own:
            raise ValueError(
                "The network was not called since the last step: call after(step) once for each step, right after it."
            )
        count = len(step.x_t)
        own = [each[-count:] for each in self._own]  # the prompt's side comes last
        added = [sum(each)[-count:] for each in zip(*self._added, strict=True)] or [torch.zeros_like(h) for h in own]
        names = [*(f"skip {i}" for i in range(len(own) - 1)), "middle"]
        maps = [each.float().square().mean(1).sqrt().cpu() for each in added]
        self.steps.append(dict(zip(names, maps, strict=True)))
        norms = [[h.float().flatten(1).norm(dim=1).cpu() for h in side] for side in (added, own)]
        self.ratios.append(torch.stack([a / b.clamp(min=1e-12) for a, b in zip(*norms, strict=True)], dim=1))
        self._own = []

    def maps(self, image: int = 0) -> dict[str, Tensor]:
        """One image's residual of each place, [steps, h_i, w_i], the root mean square over the channels."""
        return {name: torch.stack([step[name][image] for step in self.steps]) for name in self.steps[0]}

    def shares(self, image: int = 0) -> Tensor:
        """The norm of each residual relative to that of what it is added to, [steps, places]."""
        return torch.stack([ratio[image] for ratio in self.ratios])


@contextmanager
@typed_arguments
def record_residuals(model: StableDiffusion) -> Iterator[RecordedResiduals]:
    """Record what the model's ControlNets add in the runs inside the `with` block.

    Raises ValueError for a model without a ControlNet.
    """
    if not model.controls:
        raise ValueError("The model has no ControlNet: load one first, model = load_control(model, FOLDER).")
    found, unet = RecordedResiduals(), model.network

    def given(_: Any, __: Any, output: tuple[Sequence[Tensor], Tensor]) -> None:
        found._given.append([*output[0], output[1]])

    def begins(_: Any, __: Any, output: Tensor) -> None:
        found._added, found._given, found._own = found._given, [], [output]

    def block(_: Any, __: Any, output: tuple[Tensor, Sequence[Tensor]]) -> None:
        found._own += output[1]

    def middle(_: Any, __: Any, output: Tensor) -> None:
        found._own.append(output)

    hooks = [each.network.register_forward_hook(given) for each in model.controls]
    hooks += [unet.conv_in.register_forward_hook(begins), unet.mid_block.register_forward_hook(middle)]
    hooks += [each.register_forward_hook(block) for each in unet.down_blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@typed_arguments
def control_film(
    plain: Tensor, controlled: Tensor, steps: Sequence[Step], residuals: RecordedResiduals, image: int = 0
) -> Film:
    """A film of a run without control beside the same run with it, and of the residuals over the picture in grey.

    plain, controlled: pictures [n + 1, 3, H, W]: the predicted x_0 at each of n steps, and the result; steps: of the
    run with control. Each residual is drawn on a scale from 0 to its own maximum over the run.

    Raises ValueError for pictures of different shapes.
    """
    same_shape("plain and controlled", plain, controlled)
    panels = [
        (
            "without control",
            "the picture without control: predicted at each step, then the result",
            list(pixels(plain)),
        ),
        ("with control", "the same run with control", list(pixels(controlled))),
    ]
    shares = residuals.shares(image)
    for k, (name, maps) in enumerate(residuals.maps(image).items()):
        last = torch.cat([maps, maps[-1:]])
        size = f"{maps.shape[1]} × {maps.shape[2]}"
        title = f"{name}, {size} · {float(shares[:, k].mean()):.0%}"
        alt = f"the size of what is added at {name}, over the picture"
        panels.append((title, alt, heat_over(last, controlled)))
    curves = [
        step_curve(shares[:, :-1].mean(1).tolist(), "data", "skip connections, mean"),
        step_curve(shares[:, -1].tolist(), "noise", "middle block"),
    ]
    alt = "the norm of what is added, relative to what it is added to, at each step"
    chart = step_chart("what is added, relative to what was there", alt, curves, range(len(steps)))
    captions = [*(level_caption(k, step.level, len(steps)) for k, step in enumerate(steps)), ending(len(steps))]
    return film(panels, captions, rows=(2, len(panels) - 2), charts=[chart])
