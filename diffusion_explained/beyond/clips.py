"""What can be done with a trained video network: continue a given first frame, and see its attention over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from diffusion_explained.checks import float_data, typed_arguments
from diffusion_explained.inside import watch
from diffusion_explained.inverse import repaint
from diffusion_explained.models.attention import Attend
from diffusion_explained.models.space_time import SpaceTimeDiT
from diffusion_explained.noise import generators
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level


@typed_arguments(but="labels")
def continue_frame(
    model: Model,
    first: Tensor,
    labels: Tensor | Sequence[int] | None = None,
    *,
    num_inference_steps: int = 50,
    guidance_scale: float | None = None,
    resamplings: int = 2,
    seed: int = 0,
) -> Iterator[Step]:
    """Image to video: the steps that paint the later frames of clips whose first frame is given.

        `inverse.repaint`, with the first frame known and the others painted

    Ho et al. 2022, "Video Diffusion Models", Section 3.1, call this the replacement method. The network was not trained
    for it: the known frame only takes part through the noisy clip.

    Args:
        first: the first frames, [B, C, H, W] in [-1, 1].
        labels: one per clip, or None for clips without a condition.
        resamplings: as for `repaint`; each step takes as many evaluations.

    Raises ValueError for frames of another shape, and for labels or settings that do not fit.
    """
    channels, frames, height, width = model.image_shape
    if tuple(float_data("first", first).shape[1:]) != (channels, height, width) or len(first) == 0:
        raise ValueError(f"first must be frames [B, {channels}, {height}, {width}]; got {list(first.shape)}.")
    known = first[:, :, None].repeat(1, 1, frames, 1, 1).to(model.device)
    mask = torch.ones(1, 1, frames, 1, 1, device=known.device, dtype=known.dtype)
    mask[:, :, 0] = 0
    streams = generators(len(first), seed)
    levels = model.levels(num_inference_steps)
    denoise = model.denoiser(labels, guidance_scale)
    start = model.noise(len(first), generator=streams)
    return repaint(denoise, start, levels, known=known, mask=mask, resamplings=resamplings, generator=streams)


@torch.no_grad()
@typed_arguments
def time_attention(network: SpaceTimeDiT, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
    """How much each frame attends to each other one: [layers, B, heads, F, F]; each row sums to 1.

        weights = softmax(q k^T / sqrt(head_width)), mean over the places of a frame      (Vaswani et al. 2017, Eq. 1)

    layers: the blocks of time, in order. x_t is [B, C, F, H, W], t [B], labels [B].
    """
    names = [f"blocks.{i}.attend" for i in range(1, network.config.depth, 2)]
    with watch(network, names) as passed:
        network(x_t, t, labels)
    maps = []
    for name in names:
        attend = network.get_submodule(name)
        assert isinstance(attend, Attend)
        q, k, _ = attend.heads(passed[name].input)  # [B * places, heads, F, head_width]
        maps.append(attend.weights(q, k).unflatten(0, (len(x_t), -1)).mean(1))
    return torch.stack(maps)


@typed_arguments
def frame_attention(model: Model, x_t: Tensor, level: Level, labels: Sequence[int]) -> Tensor:
    """How much each frame attends to each other one at a level of noise, mean over layers and heads: [B, F, F].

    x_t: [B, C, F, H, W], as a `Step` of the model has it; labels: one per clip. Raises ValueError for a model whose
    network is no `SpaceTimeDiT`.
    """
    if not isinstance(model.network, SpaceTimeDiT):
        raise ValueError(f"{model.name} has no blocks of time: attention over time is that of a model of clips, video.")
    time = model.schedule.network_time(level.t).expand(len(x_t)).to(x_t.device)
    maps = time_attention(model.network, x_t, time, torch.tensor(labels, device=x_t.device, dtype=torch.int64))
    return maps.mean((0, 2))
