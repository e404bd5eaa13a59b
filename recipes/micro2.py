"""Train Micro Stable Diffusion further, so that "a bison left of a maple leaf" is drawn on the sides that it says.

    python recipes/micro2.py --start WEIGHTS --seconds 380 --device cuda --compile   # the weights that ship
    python recipes/micro2.py --sample --scenes 512 --batch-size 8 --images 80        # a trial on a CPU

The first training (`diffusion-explained micro train`) drew both things of a caption, and their sides by chance. The
text encoder was the reason: from its vectors one can read both things, which is said first, and "left" or "right", but
not which thing is on the left (benchmarks/micro_text.py binding). Three changes teach it:

- scenes: 41% are of two things (9% before), and 60% of the captions say the style (30% before): the mix "relations".
- a second loss on the text encoder alone: from its vectors at the padding, a linear reader must name the thing on the
  left, on the right, at the top and at the bottom. The reader is thrown away after training.
- half of the training times are drawn near pure noise, where the places of things are decided.

Weights to start from: a folder in diffusers' format, "micro" for those of the package. The emoji: `micro data`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.devices import choose_device, to_channels_last
from diffusion_explained.extras import extra
from diffusion_explained.files import check_folder
from diffusion_explained.forward import add_noise
from diffusion_explained.micro.card import read_card, write_card
from diffusion_explained.micro.emoji import EmojiSet, load_emoji, load_emoji_sample
from diffusion_explained.micro.layout import NO_SUBJECT, SIDES, said_sides
from diffusion_explained.micro.networks import TEXT_WIDTH, save_micro
from diffusion_explained.micro.scene_stream import Batches, to_device
from diffusion_explained.micro.scenes import Scenes, SceneSampler, draw_scenes
from diffusion_explained.micro.text_to_image_training import TextToImageConfig
from diffusion_explained.micro.tokens import encode, load_tokenizer
from diffusion_explained.micro.training_runs import CHECKPOINTS, training_card
from diffusion_explained.noise import randn, seeded
from diffusion_explained.predictions import target
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.stable_diffusion.weights import find_weights
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import GradientStep, RecordedStep, make_step
from diffusion_explained.training.timed import TimedRecord, train_for

MIX = "relations"
READ = 0.02  # the weight of the second loss
NEAR_NOISE = 3.0  # the shift of half of the training times towards pure noise: t' = 3 t / (1 + 2 t)
PADDINGS = ("open", "masked")  # whether the U-Net attends to the padding after the end token


@dataclass(frozen=True)
class TaughtScenes:
    """latents fp16 [N, 4, 16, 16]; tokens int16 [N, L]; sides int16 [N, 4], the subject on each side or -1."""

    latents: Tensor
    tokens: Tensor
    sides: Tensor

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class SidedBatches(Batches[tuple[Scenes, Tensor, Tensor]]):
    """Batches of scenes with the token ids of their captions [B, L] and what is said of each side [B, 4]."""

    tokenizer: Any
    subjects: list[int]

    def made_of(self, scenes: Scenes, n: int) -> tuple[Scenes, Tensor, Tensor]:
        return scenes, encode(self.tokenizer, scenes.captions), said_sides(scenes, self.subjects)


@torch.no_grad()
def make_scenes(
    vae: Any, tokenizer: Any, emoji: EmojiSet, count: int, *, first: int = 0, workers: int = 0, batch_size: int = 512
) -> TaughtScenes:
    """Draw and encode `count` batches of scenes from batch `first` on, on the device of the autoencoder."""
    device, dtype = next(vae.parameters()).device, next(vae.parameters()).dtype
    images = emoji.images.to(device)
    batches = SidedBatches(SceneSampler(emoji, mix=MIX), batch_size, tokenizer, emoji.subject.tolist())
    made: list[list[Tensor]] = [[], [], []]
    for scenes, tokens, sides in batches.stream(first, count, workers):
        x = draw_scenes(scenes, images).to(dtype)
        made[0].append((vae.encode(x).latent_dist.mean.float() * vae.config.scaling_factor).half())
        made[1].append(tokens.to(torch.int16))
        made[2].append(sides.to(torch.int16))
    return TaughtScenes(*(torch.cat(part).to(device) for part in made))


class SideReader(nn.Module):
    """From the text encoder's vectors [B, L, D], logits of the subject on each side, [B, 4, M].

    logits_k = (W_k mean_p h_p) E^T; the mean is over the padding whose place is k modulo 4, so that the U-Net finds the
    left thing and the right thing at different places; if the padding is masked, h is that of the end token alone.
    """

    def __init__(self, subjects: int, padding: str) -> None:
        super().__init__()
        self.padding = padding
        self.read = nn.Parameter(torch.randn(len(SIDES), TEXT_WIDTH, TEXT_WIDTH) / TEXT_WIDTH**0.5)
        self.subjects = nn.Parameter(torch.randn(subjects, TEXT_WIDTH) / TEXT_WIDTH**0.5)

    def forward(self, embeds: Tensor, end: Tensor) -> Tensor:
        place = torch.arange(embeds.shape[1], device=embeds.device)
        if self.padding == "masked":
            chosen = (place == end[:, None])[:, None].expand(-1, len(SIDES), -1)
        else:
            side = torch.arange(len(SIDES), device=embeds.device)[:, None]
            chosen = (place >= end[:, None])[:, None] & (place % len(SIDES) == side)
        weights = chosen.to(embeds.dtype)
        vectors = weights @ embeds / weights.sum(2, keepdim=True).clamp(min=1)  # [B, 4, D]
        return torch.einsum("bkd,kde->bke", vectors, self.read.to(vectors.dtype)) @ self.subjects.to(vectors.dtype).T


class TaughtTextToImage(nn.Module):
    """The text encoder, the U-Net, and the reader that is thrown away after training."""

    def __init__(self, text_encoder: Any, unet: Any, reader: SideReader) -> None:
        super().__init__()
        self.text_encoder, self.unet, self.reader = text_encoder, unet, reader
        self.end = text_encoder.config.eos_token_id

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        embeds = self.text_encoder(input_ids=tokens).last_hidden_state
        end = (tokens == self.end).int().argmax(dim=1)
        kept = None
        if self.reader.padding == "masked":
            kept = torch.arange(tokens.shape[1], device=tokens.device) <= end[:, None]
        output = self.unet(
            x_t, t, encoder_hidden_states=embeds, encoder_attention_mask=kept, return_dict=False
        )[0]  # fmt: skip
        return output, self.reader(embeds, end)

    def loss(
        self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, time: Tensor, tokens: Tensor, sides: Tensor
    ) -> Tensor:
        """The flow-matching loss, plus READ times the reader's mean cross-entropy where a caption says a side."""
        output, logits = self(add_noise(x_0, eps, (time, alpha, sigma)), time, tokens)
        flow = (output.float() - target("flow", x_0, eps, alpha, sigma)).square().mean()
        read = F.cross_entropy(
            logits.float().flatten(0, 1), sides.flatten(), ignore_index=NO_SUBJECT, reduction="sum"
        ) / (sides != NO_SUBJECT).sum().clamp(min=1)  # fmt: skip
        return flow + READ * read


def start_from(folder: str | Path, subjects: int, padding: str, seed: int) -> TaughtTextToImage:
    """The networks of a pipeline's folder, in float32, with a new reader."""
    with extra("sd"):
        from transformers import CLIPTextModel

    found = find_weights(folder).folder
    text_encoder = CLIPTextModel.from_pretrained(str(found / "text_encoder"), dtype=torch.float32)
    unet = diffusers().UNet2DConditionModel.from_pretrained(str(found / "unet"), torch_dtype=torch.float32)
    return TaughtTextToImage(text_encoder, unet, seeded(seed, lambda: SideReader(subjects, padding)))


@dataclass
class Training:
    """A training that is ready to run: its state, and its step, compiled and recorded."""

    state: TrainingState[TaughtTextToImage]
    step: GradientStep | RecordedStep
    config: TextToImageConfig
    device: torch.device
    description: dict[str, Any]


def prepare(
    model: TaughtTextToImage, config: TextToImageConfig, device: torch.device, checkpoints: Path | None = None
) -> Training:
    """The training of a model, resumed from its checkpoints if it has any; on CUDA its step is recorded here."""
    if config.channels_last:
        to_channels_last(model)
    state = TrainingState.new(model.to(device).train(), config)
    description = {
        "unet": {name: value for name, value in model.unet.config.items() if not name.startswith("_")},
        "padding": model.reader.padding,
        "mix": MIX,
        "training": asdict(config),
    }
    resume(state, description, checkpoints)
    if config.compile:
        model.unet.compile(dynamic=False)
    step = make_step(model.loss, state, config, Processes.here(device, config.batch_size))
    if isinstance(step, RecordedStep):
        B, on = config.batch_size, {"device": device}
        x, one = torch.randn(B, 4, 16, 16, **on), torch.full((B,), 0.5, **on)
        form = torch.channels_last if config.channels_last else torch.contiguous_format
        tokens = torch.zeros(B, model.text_encoder.config.max_position_embeddings, dtype=torch.int64, **on)
        sides = torch.full((B, len(SIDES)), NO_SUBJECT, dtype=torch.int64, **on)
        x = x.contiguous(memory_format=form)
        step.record([x, x.clone(), one, one.clone(), 1000 * one, tokens, sides])
    return Training(state, step, config, device, description)


def train(
    training: Training, scenes: TaughtScenes, empty: Tensor, checkpoints: Path | None = None, **options: Any
) -> Iterator[TimedRecord]:
    """Train until the time or the images of the settings are used up; options: of `train_for`."""
    state, config, device = training.state, training.config, training.device
    even, near_noise = FlowSchedule(), FlowSchedule(shift=NEAR_NOISE)
    form = torch.channels_last if config.channels_last else torch.contiguous_format
    empty = empty.to(device)

    def batches() -> list[Tensor]:
        B, on_cpu = config.batch_size, {"generator": state.generator, "device": "cpu"}
        chosen = to_device(torch.randint(len(scenes), (B,), dtype=torch.int64, **on_cpu), device)
        dropped = to_device(torch.rand(B, dtype=torch.float32, **on_cpu) < config.label_dropout, device)
        t = torch.where(
            torch.arange(B) % 2 == 0, even.sample_t(B, state.generator), near_noise.sample_t(B, state.generator)
        )
        x_0 = scenes.latents[chosen].float().contiguous(memory_format=form)
        tokens = torch.where(dropped[:, None], empty, scenes.tokens[chosen].long())  # CFG, Algorithm 1
        sides = scenes.sides[chosen].long().masked_fill(dropped[:, None], NO_SUBJECT)
        eps = randn(x_0.shape, state.noise_generator, device).contiguous(memory_format=form)
        alpha, sigma, time = (
            to_device(column.float(), device) for column in (even.alpha(t), even.sigma(t), even.network_time(t))
        )
        return [x_0, eps, alpha, sigma, time, tokens, sides]

    yield from train_for(
        training.step, state, config, batches, training.description, checkpoints=checkpoints, **options
    )


def save(
    out: Path, start: str | Path, training: Training, tokenizer: Any, scenes: int, record: TimedRecord
) -> Path:  # fmt: skip
    """Write the pipeline's folder with the averaged weights, the autoencoder of the start, and the card."""
    found, ema = find_weights(start).folder, training.state.ema
    vae = diffusers().AutoencoderKL.from_pretrained(found / "vae")
    card = read_card(found)
    first = dict(card["text_to_image"])
    save_micro(out, vae, ema.text_encoder, tokenizer, ema.unet, "flow")
    card["text_to_image"] |= {
        "scenes": scenes,
        "continued_from": first,
        "recipe": "recipes/micro2.py",
        "padding": ema.reader.padding,
        **training_card(training.config, record, training.device),
    }
    write_card(out, card)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="micro", help="the pipeline's folder to start from")
    parser.add_argument("--padding", choices=PADDINGS, default="open", help="whether the U-Net attends to the padding")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--images", type=int)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--scenes", type=int, default=600_000)
    parser.add_argument("--workers", type=int, default=0, help="the number of processes that compose scenes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="compile the U-Net, for a GPU")
    parser.add_argument("--sample", action="store_true", help="use only the emoji that are part of the package")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/micro2"))
    given = parser.parse_args()
    try:
        check_folder(given.out)
    except OSError as error:
        sys.exit(str(error))
    device, tokenizer = choose_device(given.device), load_tokenizer()
    emoji = load_emoji_sample() if given.sample else load_emoji()
    limits = {"seconds": given.seconds, "images": given.images}
    config = TextToImageConfig(
        batch_size=given.batch_size, learning_rate=given.learning_rate, compile=given.compile, seed=given.seed,
        cuda_graph=True, channels_last=True, **{name: value for name, value in limits.items() if value is not None},
    )  # fmt: skip
    checkpoints = given.out / CHECKPOINTS
    training = prepare(
        start_from(given.start, len(emoji.names), given.padding, given.seed), config, device, checkpoints
    )
    vae = diffusers().AutoencoderKL.from_pretrained(find_weights(given.start).folder / "vae").to(device)
    vae = vae.half() if device.type == "cuda" else vae.float()
    batch = min(512, given.scenes)
    scenes = make_scenes(vae, tokenizer, emoji, -(-given.scenes // batch), workers=given.workers, batch_size=batch)
    for record in train(training, scenes, encode(tokenizer, [""])[0], checkpoints):
        print(f"{record.step}: loss {record.loss:.4f}, {record.images_per_second:.0f} images/s", flush=True)
    print(save(given.out, given.start, training, tokenizer, len(scenes), record))


if __name__ == "__main__":
    main()
