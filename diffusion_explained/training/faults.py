"""A plain training loop and a plain sampling loop, with the field's real faults as switches: one wrong line each.

    network = learn(points, classes, schedule, "eps", fault="another draw of noise")     # points in the plane
    states = draw(load_pretrained("mnist_unet_eps"), range(10), fault="guidance counted twice")

`metrics.diagnosis` names the fault of a network of `learn`, and `benchmarks/diagnosis.py` counts how often it is right.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_explained.checks import float_data, named_options, number, typed_arguments, whole
from diffusion_explained.messages import unknown_name
from diffusion_explained.models import MLP, MLPConfig
from diffusion_explained.noise import randn, seeded, stream
from diffusion_explained.predictions import check_kind, target
from diffusion_explained.pretrained import Model
from diffusion_explained.schedules import SCHEDULES, DDPMSchedule, Schedule

BATCH, LEARNING_RATE, DROPOUT, EMA = 256, 3e-3, 0.1, 0.99
LATENT_SCALE = 0.18215  # by which Stable Diffusion multiplies its latents
FAULTS = (
    "off by one", "off by one, the other way", "variances for standard deviations", "one step's noise", "range 0 to 1",
    "scale of the data", "scale of the data, inverse", "wrong sign", "another draw of noise", "predicts x_0",
    "predicts v", "schedule cosine", "schedule scaled_linear", "time in another unit", "time ignored", "label ignored",
    "labels shifted", "null label never trained", "label dropout inverted", "last step never trained", "no EMA",
)  # fmt: skip
SAMPLING_FAULTS = (
    "off by one", "cond and uncond swapped", "guidance counted twice", "clamp without eps", "leading spacing",
    "noise left at the end", "another schedule",
)  # fmt: skip


@named_options
@typed_arguments
def learn(
    data: Tensor,
    classes: Tensor,
    schedule: Schedule,
    kind: str,
    *,
    fault: str | None = None,
    steps: int = 2000,
    width: int = 64,
    seed: int = 0,
) -> MLP:
    """Train an MLP on points by Algorithm 1 of DDPM with classifier-free label dropout; return its averaged weights.

        loss = E |network(alpha_t x_0 + sigma_t eps, t, label) - target(kind, x_0, eps)|^2

    Ho et al. 2020, Algorithm 1; label dropout: Ho & Salimans 2022, Algorithm 1.

    data: points [N, 2]; classes: their classes [N], from 0. fault: one of `FAULTS`, the line that is wrong; None for a
    right training. The time faults "off by one" and "last step never trained" need a DDPM schedule.

    Raises ValueError for an unknown prediction type or fault, and for data that are no points.
    """
    check_kind(kind)
    if fault is not None and fault not in FAULTS:
        raise unknown_name("fault", fault, FAULTS)
    if float_data("data", data).ndim != 2 or data.shape[1] != 2 or len(data) != len(classes):
        raise ValueError(f"data must be points [N, 2], with one class each; got {list(data.shape)}, {len(classes)}.")
    steps, count, draws, wrong = whole("steps", steps, 1), int(classes.max()) + 1, stream(seed), fault or ""
    T = getattr(schedule, "num_train_timesteps", 1000)
    x = data.to("cpu", torch.float32)
    if wrong == "range 0 to 1":
        x = (x + 1) / 2
    if wrong == "scale of the data":
        x = x * LATENT_SCALE
    if wrong == "scale of the data, inverse":
        x = x / LATENT_SCALE
    noising = schedule
    if wrong.startswith("schedule "):
        noising = SCHEDULES[wrong.removeprefix("schedule ")](num_train_timesteps=T)
    trained = wrong.removeprefix("predicts ") if wrong.startswith("predicts ") else kind

    network = seeded(seed, lambda: MLP(MLPConfig(width=width, num_classes=count)))
    if wrong == "time ignored":
        for weight in network.embed_time.parameters():
            weight.requires_grad_(False).zero_()
    averaged = copy.deepcopy(network).requires_grad_(False)
    adam = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)
    for _ in range(steps):
        chosen = torch.randint(len(x), (BATCH,), generator=draws, device="cpu", dtype=torch.int64)
        x_0, label = x[chosen], classes[chosen]
        if wrong == "labels shifted":
            label = (label + 1) % count
        t = schedule.sample_t(BATCH, draws)
        if wrong == "last step never trained":
            t = t.clamp(max=T - 2)
        noisy_t = t
        if wrong == "off by one":
            noisy_t = (t + 1).clamp(max=T - 1)
        if wrong == "off by one, the other way":
            noisy_t = (t - 1).clamp(min=0)
        alpha, sigma = noising.alpha(noisy_t).float(), noising.sigma(noisy_t).float()
        if wrong == "variances for standard deviations":
            alpha, sigma = alpha**2, sigma**2
        if wrong == "one step's noise":
            alpha = alpha / torch.where(t > 0, noising.alpha((t - 1).clamp(min=0)).float(), 1.0)
            sigma = (1 - alpha**2).sqrt()
        eps = randn(x_0.shape, draws)
        x_t = alpha[:, None] * x_0 + sigma[:, None] * eps
        if wrong == "another draw of noise":
            eps = randn(x_0.shape, draws)
        due = target(trained, x_0, eps, alpha, sigma)
        if wrong == "wrong sign":
            due = -due
        chance = torch.rand(BATCH, generator=draws, dtype=torch.float32, device="cpu")
        dropped = chance < DROPOUT
        if wrong == "label dropout inverted":
            dropped = chance > DROPOUT
        if wrong == "label ignored":
            dropped = chance < 1
        if wrong == "null label never trained":
            dropped = chance < 0
        label = torch.where(dropped, count, label)
        time = schedule.network_time(t)
        if wrong == "time in another unit":
            time = time / T
        loss = (network(x_t, time, label) - due).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - EMA)
    weights = averaged
    if wrong == "no EMA":
        weights = network.requires_grad_(False)
    return weights.eval()


@named_options
@typed_arguments(but="labels")
@torch.no_grad()
def draw(
    model: Model,
    labels: Tensor | Sequence[int],
    *,
    fault: str | None = None,
    num_inference_steps: int = 10,
    guidance_scale: float = 2.0,
    seed: int = 0,
) -> list[Tensor]:
    """Draw images by DDIM with guidance and clamping; return all states, from x_T to the images, [B, C, H, W] each.

        eps = uncond + w (cond - uncond);   x_0 = (x_t - sigma eps) / alpha;   x_next = alpha_next x_0 + sigma_next eps

    Song et al. 2021 (DDIM), Eq. 12 with eta = 0; Ho & Salimans 2022, Eq. 6, with w = 1 for no guidance.

    model: one of a DDPM schedule that predicts eps. labels: one class per image. fault: one of `SAMPLING_FAULTS`, the
    line that is wrong; None for a right loop. Raises ValueError for another model, and for an unknown fault.
    """
    schedule, count = model.schedule, whole("num_inference_steps", num_inference_steps, 2)
    if not isinstance(schedule, DDPMSchedule) or model.kind != "eps":
        raise ValueError(f"model must predict eps on a DDPM schedule; {model.name} predicts {model.kind}.")
    if fault is not None and fault not in SAMPLING_FAULTS:
        raise unknown_name("fault", fault, SAMPLING_FAULTS)
    w, classes, wrong = number("guidance_scale", guidance_scale, "a number"), model.labels(labels), fault or ""
    null, T = torch.full_like(classes, model.num_classes), schedule.num_train_timesteps
    times = schedule.timesteps(count, spacing="trailing")
    if wrong == "leading spacing":
        times = schedule.timesteps(count, spacing="leading")
    if wrong == "noise left at the end":
        times = (times / 2).floor()
    noising = schedule
    if wrong == "another schedule":
        noising = DDPMSchedule.cosine(num_train_timesteps=T)
    levels = noising.levels_at(times)
    x_t = model.noise(len(classes), seed=seed)
    states = [x_t]
    for level, after in pairwise(levels):
        if wrong == "off by one" and after.sigma > 0:
            after = noising.level(level.t - 1)
        time = schedule.network_time(level.t).expand(2 * len(x_t))
        both = model.network(torch.cat([x_t, x_t]), time, torch.cat([classes, null]))
        cond, uncond = both.chunk(2)
        eps = uncond + w * (cond - uncond)
        if wrong == "cond and uncond swapped":
            eps = cond + w * (uncond - cond)
        if wrong == "guidance counted twice":
            eps = uncond + (1 + w) * (cond - uncond)
        x_0 = ((x_t - level.sigma * eps) / level.alpha).clamp(-1, 1)
        if wrong != "clamp without eps":
            eps = (x_t - level.alpha * x_0) / level.sigma
        x_t = after.alpha * x_0 + after.sigma * eps
        states.append(x_t)
    return states
