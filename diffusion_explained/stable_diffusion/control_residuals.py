"""What ControlNets or image prompts add to a U-Net: recorded at each step and place, and as a film for the scrubber.

    with record_residuals(model) as residuals:                # of a model from `load_control`
        for step in model.steps(text, control=picture, seed=0):
            residuals.after(step)
    residuals.maps()                        # {place: [steps, h_i, w_i]}, the root mean square over the channels
    residuals.shares()                      # [steps, places]: ||residual|| / ||what it is added to||

The places are those of the zero convolutions (`micro.control.ControlNet`): the skip connections from the first layer
down, and the middle block. Of image prompts (`record_image_attention`) they are the cross-attention layers, the middle
block's last: what is added is the attention to the picture, and what it is added to the attention to the words. The
networks are observed by hooks: what they compute stays the same to the bit.
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
from diffusion_explained.stable_diffusion.attention import grid_of
from diffusion_explained.stable_diffusion.image_attention import cross_attention_layers
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
    _names: list[str] = field(default_factory=list, repr=False)  # of the places
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
        names = self._names or [*(f"skip {i}" for i in range(len(own) - 1)), "middle"]
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


@contextmanager
@typed_arguments
def record_image_attention(model: StableDiffusion) -> Iterator[RecordedResiduals]:
    """Record what the model's image prompts add to its cross-attention in the runs inside the `with` block.

    Raises ValueError for a model without an image prompt.
    """
    if not model.image_prompts:
        raise ValueError("The model has no image prompt: load one first, model = load_image_prompt(model, FILE).")
    layers = cross_attention_layers(model.network)
    found = RecordedResiduals(_names=[short_name(name) for name in layers])
    size: list[int] = []
    added: dict[str, list[Tensor]] = {}
    summed: dict[str, Tensor] = {}

    def begins(_: Any, __: Any, output: Tensor) -> None:
        size[:] = output.shape[-2:]
        added.clear()
        summed.clear()

    def picture_of(name: str) -> Any:
        def hook(_: Any, __: Any, output: Tensor) -> None:  # [N, heads, P, d]
            added.setdefault(name, []).append(output.transpose(1, 2).flatten(2))

        return hook

    def sum_of(name: str) -> Any:
        def hook(_: Any, inputs: tuple[Tensor]) -> None:  # [N, P, C]
            summed[name] = inputs[0]

        return hook

    def ends(_: Any, __: Any, ___: Tensor) -> None:
        def placed(x: Tensor) -> Tensor:
            return x.transpose(1, 2).unflatten(2, grid_of(x.shape[1], (size[0], size[1])))

        total = {name: torch.stack(rows).sum(0) for name, rows in added.items()}
        found._added = [[placed(total[name]) for name in layers]] if total else []
        found._own = [placed(summed[name] - total[name] if total else summed[name]) for name in layers]

    hooks = [model.network.conv_in.register_forward_hook(begins), model.network.conv_out.register_forward_hook(ends)]
    for name, layer in layers.items():
        hooks.append(layer.to_out[0].register_forward_pre_hook(sum_of(name)))
        hooks += [each.adapter.by_layer()[name].register_forward_hook(picture_of(name)) for each in model.image_prompts]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@typed_arguments
def short_name(layer: str) -> str:
    """A cross-attention layer's name for people: "down 1.0", "up 0.1", "middle", with the block inside if not 0."""
    part, numbers = layer.split("_block")[0], [word for word in layer.split(".") if word.isdigit()]
    if part == "mid":
        return "middle" if numbers[1:] in ([], ["0"]) else f"middle {'.'.join(numbers[1:])}"
    return f"{part} {'.'.join(numbers[:2])}" + (f".{numbers[2]}" if numbers[2:] not in ([], ["0"]) else "")


@typed_arguments
def control_film(
    plain: Tensor,
    controlled: Tensor,
    steps: Sequence[Step],
    residuals: RecordedResiduals,
    image: int = 0,
    by: str = "control",
    others: str = "skip connections",
) -> Film:
    """A film of a run without control beside the same run with it, and of the residuals over the picture in grey.

    plain, controlled: pictures [n + 1, 3, H, W]: the predicted x_0 at each of n steps, and the result; steps: of the
    run with control. Each residual is drawn on a scale from 0 to its own maximum over the run. by: what the run is
    controlled by, and others: the places that are not the middle block, in the film's words.

    Raises ValueError for pictures of different shapes.
    """
    same_shape("plain and controlled", plain, controlled)
    panels = [
        (
            f"without {by}",
            f"the picture without {by}: predicted at each step, then the result",
            list(pixels(plain)),
        ),
        (f"with {by}", f"the same run with {by}", list(pixels(controlled))),
    ]
    shares = residuals.shares(image)
    for k, (name, maps) in enumerate(residuals.maps(image).items()):
        last = torch.cat([maps, maps[-1:]])
        size = f"{maps.shape[1]} × {maps.shape[2]}"
        title = f"{name}, {size} · {float(shares[:, k].mean()):.0%}"
        alt = f"the size of what is added at {name}, over the picture"
        panels.append((title, alt, heat_over(last, controlled)))
    curves = [
        step_curve(shares[:, :-1].mean(1).tolist(), "data", f"{others}, mean"),
        step_curve(shares[:, -1].tolist(), "noise", "middle block"),
    ]
    alt = "the norm of what is added, relative to what it is added to, at each step"
    chart = step_chart("what is added, relative to what was there", alt, curves, range(len(steps)))
    captions = [*(level_caption(k, step.level, len(steps)) for k, step in enumerate(steps)), ending(len(steps))]
    return film(panels, captions, rows=(2, len(panels) - 2), charts=[chart])
