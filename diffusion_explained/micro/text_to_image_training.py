"""Train the U-Net and the text encoder, together and from scratch, on the latents of captioned scenes.

    scenes = encode_scenes(vae, tokenizer, emoji, 400_000)
    model = TextToImage(build_text_encoder(tokenizer), build_unet())
    for record in train_text_to_image(model, scenes, "flow", TextToImageConfig(seconds=300), device="cuda"):
        print(record.step, record.loss)

Algorithm 1 of DDPM on latents (latent diffusion, Eq. 2 and 3), with some captions empty for classifier-free guidance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.checks import check_kind_of, named_options, typed_arguments
from diffusion_explained.devices import choose_device, to_channels_last
from diffusion_explained.messages import unknown_name
from diffusion_explained.micro.encoded_scenes import EncodedScenes
from diffusion_explained.micro.networks import PREDICTIONS
from diffusion_explained.micro.scene_stream import to_device
from diffusion_explained.noise import randn
from diffusion_explained.schedules import DDPMSchedule, FlowSchedule, Schedule
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.folder_lock import one_at_a_time
from diffusion_explained.training.loop import training_loss
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import compiled, make_step
from diffusion_explained.training.timed import TimedConfig, TimedRecord, train_for


@named_options
@dataclass(frozen=True)
class TextToImageConfig(TimedConfig):
    """The settings for training the U-Net and the text encoder; label_dropout is the share of empty captions.

    min_snr: an eps network's loss is weighted by min(SNR, min_snr) / SNR, so that the nearly clean levels, whose
        noise says little about the picture, do not outweigh the others (Hang et al. 2023, Eq. 8). None: no weights.

    Raises ValueError for a setting out of range.
    """

    batch_size: int = 512
    learning_rate: float = 8e-4
    min_snr: float | None = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_snr is not None and self.min_snr <= 0:
            raise ValueError(f"min_snr (above 0, or None) cannot be {self.min_snr!r}.")


class TextToImage(nn.Module):
    """The text encoder and the U-Net as one network: x_t [B, 4, h, w], times [B], token ids [B, L] -> [B, 4, h, w]."""

    def __init__(self, text_encoder: Any, unet: Any) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        embeds = self.text_encoder(input_ids=tokens).last_hidden_state
        return self.unet(x_t, t, encoder_hidden_states=embeds, return_dict=False)[0]


def schedule_of(prediction: str) -> Schedule:
    """Stable Diffusion 1.5's schedule for eps, the straight path for flow. Raises ValueError for another prediction."""
    if prediction not in PREDICTIONS:
        raise unknown_name("prediction", prediction, PREDICTIONS)
    return DDPMSchedule.scaled_linear() if prediction == "eps" else FlowSchedule()


@named_options(of=train_for)
@one_at_a_time
@typed_arguments(but="model")
def train_text_to_image(
    model: TextToImage,
    scenes: EncodedScenes,
    prediction: str,
    config: TextToImageConfig,
    *,
    device: torch.device | str = "cpu",
    checkpoints: Path | None = None,
    **options: Any,
) -> Iterator[TimedRecord]:
    """Train a `TextToImage` in place; at the end it holds the moving average of its weights.

        loss = mean w(t) (unet(x_t, t, text) - target)^2,   x_t = alpha * x_0 + sigma * eps

    Args:
        prediction: the prediction type, "eps" or "flow".
        checkpoints: a folder; if it holds a checkpoint of this training, training resumes from it.
        options: record_every and checkpoint_every of `train_for`.

    Raises ValueError for an unknown prediction or the checkpoints of another training, FloatingPointError when the
    loss is not finite, and what `folder_lock.hold` raises.
    """
    check_kind_of("model", model, nn.Module)  # a network of one's own is trained too
    schedule, device = schedule_of(prediction), choose_device(device)
    if config.channels_last:
        to_channels_last(model)
    state = TrainingState.new(model.to(device).train(), config)
    description = {
        "unet": dict(model.unet.config),
        "prediction": prediction,
        "training": asdict(config),
        "scenes": scenes.made_from,
    }
    resume(state, description, checkpoints)
    loss = partial(training_loss, compiled(model, config), prediction)
    step = make_step(loss, state, config, Processes.here(device, config.batch_size))
    scenes = scenes.to(device)

    form = torch.channels_last if config.channels_last else torch.contiguous_format

    def batches() -> list[Tensor]:
        """Algorithm 1 of DDPM, lines 2 to 4: scenes, times and noise."""
        on_cpu: dict[str, Any] = {"generator": state.generator, "device": "cpu"}
        chosen = to_device(torch.randint(len(scenes), (config.batch_size,), dtype=torch.int64, **on_cpu), device)
        dropped = to_device(torch.rand(config.batch_size, dtype=torch.float32, **on_cpu) < config.label_dropout, device)
        t = schedule.sample_t(config.batch_size, state.generator)
        x_0 = scenes.latents[chosen].float().contiguous(memory_format=form)
        tokens = torch.where(dropped[:, None], scenes.empty, scenes.tokens[chosen]).long()  # CFG, Algorithm 1
        eps = randn(x_0.shape, state.noise_generator, device).contiguous(memory_format=form)
        alpha, sigma, weight = (
            to_device(column.float(), device)
            for column in (schedule.alpha(t), schedule.sigma(t), root_weight(schedule, prediction, t, config.min_snr))
        )
        return [x_0, eps, alpha, sigma, to_device(schedule.network_time(t), device), tokens, weight]

    yield from train_for(step, state, config, batches, description, checkpoints=checkpoints, **options)
    model.load_state_dict(state.ema.state_dict())


def root_weight(schedule: Schedule, prediction: str, t: Tensor, min_snr: float | None) -> Tensor:
    """The square root of the loss weight at times t [B]: sqrt(min(SNR, min_snr) / SNR) for eps, 1 for flow."""
    if prediction != "eps" or min_snr is None:
        return torch.ones_like(schedule.alpha(t))
    snr = (schedule.alpha(t) / schedule.sigma(t)) ** 2
    return (snr.clamp(max=min_snr) / snr).sqrt()
